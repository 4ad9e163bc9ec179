"""Which half a case of the fourth collection belongs to: the halves take turns in the order of collection.

Collected by symptoms ("loss does not decrease", "predicts one class", "NaN after some epochs", ...) after all rules of
the first three collections had been written, by a hand that writes no rules; what would name a cause was written down
and committed before the first run. Neither half is looked at while rules are mended.
"""

from __future__ import annotations

COLLECTED = """
    data       pictures_divided_by_255_again
    loss       last_layer_keeps_its_relu
    optimizer  rate_of_eight_devices_on_one
    numerics   deviation_of_the_prior_reaches_zero
    graph      routing_shared_among_the_lower_capsules
    graph      residual_sum_given_to_another_name
    graph      block_input_kept_and_never_added
    target     class_numbers_for_pseudo_responses
    target     teacher_numbers_its_classes_differently
    mode       validation_in_training_mode
    optimizer  scheduler_starts_from_the_standard_rate
    loss       attraction_without_minus
    loss       divergence_with_all_signs_flipped
    data       two_scans_hold_nan
    init       deep_convolutions_with_large_weights
    target     gate_with_an_axis_too_many
    graph      sums_over_colours_without_their_axis
    target     value_added_after_the_end
    optimizer  critic_keeps_what_the_generator_left
    loss       latent_loss_of_a_detached_picture
    mode       dropout_with_a_wrong_scale
    mode       dropout_function_without_its_flag
    graph      causal_mask_multiplied_onto_the_scores
    optimizer  fusion_weights_in_no_group
    numerics   inverse_root_of_an_empty_vector
    init       deviation_by_fan_out
    data       pictures_turned_and_their_masks_not
    data       test_set_normalized_by_itself
    target     sensor_values_left_as_they_are
    target     logarithm_of_standardized_targets
    loss       class_zero_weighs_nothing
    graph      channels_viewed_into_features
    optimizer  rectifiers_at_the_rate_of_sigmoids
    loss       divergence_averaged_over_the_code
    loss       log_variance_taken_for_a_deviation
    loss       temperature_left_out
    optimizer  cleared_at_the_top_of_the_accumulation
    numerics   loss_scale_held_at_one
    numerics   gradients_lost_without_a_loss_scale
    graph      softmax_over_heads_in_additive_attention
    graph      kernels_chosen_by_a_softmax_over_the_batch
    target     advantages_of_every_pair
    data       loader_that_does_not_shuffle
    target     centres_where_corners_are_expected
    target     asked_for_the_token_it_has_read
    graph      times_below_one_in_slow_waves
    graph      time_encoding_by_place_in_the_batch
    numerics   log_sum_exp_with_one_maximum_for_all
    numerics   clamped_after_the_exponential
    optimizer  decay_a_hundred_times_the_papers
    data       normalizer_applied_in_every_epoch
    """

DROPPED = {
    "temperature_left_out": "the reported variant trains as well as the cured one in a small program; the report says "
    "itself that the effect is minor",
}

KIND = {name: kind for kind, name in (line.split() for line in COLLECTED.split("\n") if line.strip())}
HALF = {name: ("unseen_e", "unseen_f")[i % 2] for i, name in enumerate(KIND)}
