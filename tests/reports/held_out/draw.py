"""Which half a case belongs to: drawn once, before any case was reproduced.

The development half is there to write rules by. The held-out half is there to measure them: nobody who writes rules
reads it. Names are listed by kind in the order in which the reports were found, and shuffled by a fixed seed, so
that each kind is halved. A test compares the folders with what is drawn here. Cases that turned out not to be
reproducible stay in the list, so that the draw of the others stands, and are named in DROPPED with the reason.
"""

from __future__ import annotations

import random

SEED = 12

PLANNED = {
    "graph": """
        text_kernels_in_a_list relation_weights_in_a_dict layers_made_in_forward last_convolution_sees_next_frame
        causal_mask_inverted trajectory_head_without_activation loop_bound_drops_the_activation
        attention_over_the_batch hidden_state_viewed_across_examples attention_softmax_over_the_batch
        conditioning_split_along_the_batch heads_merged_without_permute embeddings_normalized_over_tokens
        layer_norm_over_time instance_norm_of_one_pixel reads_behind_the_padding padding_mask_inverted
        projection_under_no_grad random_encoder_frozen heads_share_one_block positions_counted_over_the_batch
        edge_softmax_over_sources attention_over_one_score dependency_loss_of_argmax
        """,
    "target": """
        class_index_into_binary_cross_entropy bernoulli_likelihood_of_standardized_inputs
        distillation_of_a_slice_of_classes set_statistic_broadcasts graph_readout_broadcasts
        forecast_of_one_step_broadcasts relu_on_box_offsets sigmoid_on_continuous_price
        softmax_output_for_values_beyond_one boxes_in_pixels energies_in_small_units attributes_into_cross_entropy
        squared_error_on_softmax one_hot_of_labels_from_one language_model_target_not_shifted
        language_model_target_shifted_twice padding_counts_in_the_loss ctc_targets_longer_than_input
        class_weights_not_inverted
        """,
    "loss": """
        sigmoid_twice_in_segmentation sigmoid_twice_in_recommender softmax_twice_in_recurrent_net
        nll_of_probabilities nll_of_raw_scores kl_without_log_in_segmentation kl_without_log_in_ranking
        dice_on_raw_scores triplet_collapse_at_high_rate triplet_collapse_on_hardest_negatives
        relu_before_softmax_in_convnet relu_before_cross_entropy_in_mlp actor_loss_without_minus
        posterior_collapse_by_means ctc_without_log_softmax softmax_over_one_label
        """,
    "optimizer": """
        discriminator_never_cleared detector_never_cleared weight_decay_in_depth_network decay_apart_from_the_rate
        cosine_horizon_in_epochs step_schedule_with_gamma_zero stale_optimizer_after_pruning
        second_discriminator_not_in_optimizer scheduler_in_place_of_optimizer
        discriminator_step_calls_other_optimizer clip_at_a_ten_thousandth clip_before_unscale
        post_norm_without_warmup generator_step_on_detached_fake critic_trained_by_policy_loss
        """,
    "numerics": """
        adam_eps_in_half_diffusion adam_eps_in_half_rows_without_gradient mask_value_overflows_half
        softmax_over_masked_out_neighbours log_variance_overflows entropy_of_masked_actions every_label_ignored
        std_of_a_constant_channel where_does_not_stop_nan arc_cosine_at_one contrast_without_a_positive
        relu_in_second_derivative
        """,
    "data": """
        faces_sorted_by_person pictures_sorted_by_label constant_field_standardized constant_columns_standardized
        raw_bytes_into_alexnet bytes_divided_as_integers divided_by_255_twice inputs_shuffled_without_labels
        picture_axes_reshaped tokens_padded_on_the_left
        """,
    "mode": """
        eval_left_on_after_validation_in_segmentation eval_left_on_after_validation_in_translation
        batch_norm_momentum_zero batch_norm_momentum_of_another_library dropout_always_on batch_norm_of_one_example
        """,
    "init": "both_factors_zero copied_units capsule_weights_too_small deep_relu_at_default_init",
    "healthy": """
        zero_initialized_head frozen_backbone gradient_accumulation gan_with_two_optimizers
        squared_error_on_zeros_and_ones log_softmax_with_nll label_smoothing class_weights teacher_forcing
        tied_word_embeddings averaged_teacher multiclass_hinge triplet_margin ctc_speech contrast_in_batch
        policy_gradient q_learning variational_autoencoder diffusion_noise physics_informed siamese_pairs
        quantile_regression poisson_counts beta_nll_regression decoupled_weight_decay clip_at_one clip_at_every_step
        warmup_from_zero cosine_to_zero one_class_by_chance one_hot_columns imbalanced_classes dropout_of_a_half
        batch_norm_after_few_steps bfloat16_autocast lbfgs_fit sharpness_aware zero_gamma_resnet stochastic_depth
        wasserstein_gradient_penalty focal_detection distillation_with_log bernoulli_autoencoder dice_on_sigmoid
        truncated_backpropagation graph_convolution packed_sequences padding_mask_of_attention
        masked_language_model rates_by_depth mixup_targets bootstrap_your_own_latent normalizing_flow
        straight_through_codes sine_network attention_to_one_key group_norm_of_two word_model_with_sgd
        """,
}  # fmt: skip

DROPPED: dict[str, str] = {}


def halves(kind: str) -> dict[str, str]:
    """{name: "dev" or "held_out"} of one kind."""
    names = PLANNED[kind].split()
    shuffled = sorted(names)
    random.Random(f"{SEED} {kind}").shuffle(shuffled)
    first = (
        len(names) + len(kind) % 2
    ) // 2  # which half gets the odd one depends on nothing that anybody chose
    return {name: "dev" if i < first else "held_out" for i, name in enumerate(shuffled)}


HALF = {name: half for kind in PLANNED for name, half in halves(kind).items()}
KIND = {name: kind for kind, names in PLANNED.items() for name in names.split()}
