"""Which half a case of the fifth collection belongs to: the halves take turns, kind by kind.

Collected from public threads by what people suffer from most, classics in other forms than their usual one, in the
shares of causes that were seen in earlier collections, by a hand that has read no rule: only the codes and their
one-line titles were known. What would name a cause was written down and committed before the first run, and neither
half is looked at while rules are mended.
"""

from __future__ import annotations

COLLECTED = """
    graph      region_features_viewed
    graph      heads_split_by_view
    graph      lstm_reads_from_example_to_example
    graph      positions_counted_along_the_batch
    graph      pooling_weights_sum_over_the_batch
    graph      mask_keeps_only_the_padding
    graph      experts_in_a_plain_dictionary
    graph      stem_frozen_at_random
    graph      latent_loss_of_a_detached_fake
    graph      teacher_compared_with_itself
    graph      shortcut_rectified_in_place
    graph      loss_wrapped_anew
    graph      heads_merged_without_permuting_back
    graph      hidden_state_viewed_as_a_column
    graph      nodes_do_not_see_themselves
    graph      softmax_of_a_single_entry
    target     column_of_prices_minus_row
    target     advantage_column_times_row
    target     first_tag_is_the_ignored_index
    target     masks_of_255
    target     averaged_log_probability_times_returns
    target     log_probabilities_of_each_dimension
    target     decoder_reads_what_it_is_asked_for
    target     pixels_standardized_for_a_sigmoid
    target     pixel_scores_viewed_as_rows
    target     bootstraps_past_the_end
    target     demand_in_pieces
    target     several_labels_into_a_softmax
    loss       softmax_at_the_end_of_forward
    loss       sigmoid_then_with_logits
    loss       ctc_of_raw_scores
    loss       divergence_without_a_logarithm
    loss       critic_prefers_fakes
    loss       dice_minimized
    loss       pairs_labelled_zero_and_one
    loss       entropy_punished
    loss       prior_term_averaged_over_dimensions
    loss       log_sigmoid_of_one_minus
    optimizer  zero_grad_outside_the_batch_loop
    optimizer  accumulated_without_dividing
    optimizer  optimizer_of_the_encoder_alone
    optimizer  plateau_waits_for_growth
    optimizer  clipped_before_unscaling
    optimizer  cleared_before_enough_examples
    optimizer  rate_drawn_too_high
    optimizer  decay_on_frozen_embeddings
    numerics   a_pair_of_the_same_example
    numerics   sine_of_the_margin
    numerics   logarithm_of_the_probabilities
    numerics   epsilon_rounds_away
    numerics   biases_from_memory
    numerics   advantage_of_a_batch_of_one
    numerics   rows_with_nothing_to_attend_to
    numerics   no_active_triplet
    data       class_masks_scaled_like_pictures
    data       pictures_reshaped_to_channels_first
    data       mixup_with_two_permutations
    data       pixels_up_to_255
    data       shuffled_after_the_labels_were_taken
    data       sensor_far_from_zero
    mode       goes_on_in_eval_mode_after_validating
    mode       momentum_of_another_library
    mode       loss_predicts_first
    mode       validation_with_dropout
    init       both_layers_of_a_gate_begin_at_zero
    init       neighbours_summed_layer_after_layer
    init       hundredth_of_a_normal_in_every_layer
    init       scores_times_root_of_width
    """

DROPPED: dict[str, str] = {}  # none

KIND = {name: kind for kind, name in (line.split() for line in COLLECTED.split("\n") if line.strip())}
HALF = {name: ("unseen_i", "unseen_j")[i % 2] for i, name in enumerate(KIND)}
