"""Which half a case of the second collection belongs to: drawn once, before any of these reports was reproduced.

Collected after all rules of the first collection had been written, in the same way. Both halves are judged once when
the collection is complete; then half A may be looked at while rules are mended, and half B may not.
"""

from __future__ import annotations

import random

SEED = 27

PLANNED = {
    "graph": """
        attention_softmax_over_queries video_steps_taken_for_examples recurrent_state_reshaped residual_adds_itself
        block_output_dropped second_view_overwritten padding_mask_on_queries scores_multiplied_by_mask
        cosine_over_the_whole_batch pretrained_vectors_stay_frozen merged_encoders_in_a_list
        """,
    "target": """
        returns_of_all_actions_broadcast depth_without_channel_broadcasts mask_augmented_to_minus_one
        scores_reshaped_before_loss pairs_labelled_the_other_way_round target_left_in_batch_order
        irradiance_in_watts one_target_for_ten_outputs
        """,
    "loss": """
        softmax_twice_in_logistic_regression sigmoid_twice_in_confidence_head logarithm_left_out_of_second_term
        focal_weight_of_a_new_tensor divergence_with_wrong_sign adversarial_term_as_a_number
        assignments_softmax_over_batch arguments_of_cross_entropy_swapped
        """,
    "optimizer": """
        cleared_at_every_microbatch cleared_right_before_the_step schedule_steps_per_batch adam_rate_of_one
        bootstrap_target_not_detached optimizer_before_quantized_layers cleared_once_per_epoch
        """,
    "numerics": """
        root_of_zero_power log_of_saturated_focal_loss epsilon_lost_in_rounding softplus_written_out
        likelihood_by_exponentials missing_targets_in_nanmean
        """,
    "data": """
        windows_viewed_not_transposed columns_normalized_for_channels sets_of_one_class_in_turn empty_spots_are_nan
        """,
    "mode": "eval_left_on_by_accuracy_check batch_norm_of_pairs_in_evaluation",
    "init": "heads_with_swapped_bias constant_weights_in_all_layers",
}  # fmt: skip

DROPPED: dict[str, str] = {}


def halves(kind: str) -> dict[str, str]:
    """{name: "unseen_a" or "unseen_b"} of one kind."""
    names = sorted(PLANNED[kind].split())
    random.Random(f"{SEED} {kind}").shuffle(names)
    first = (len(names) + len(kind) % 2) // 2
    return {name: "unseen_a" if i < first else "unseen_b" for i, name in enumerate(names)}


HALF = {name: half for kind in PLANNED for name, half in halves(kind).items()}
KIND = {name: kind for kind, names in PLANNED.items() for name in names.split()}
