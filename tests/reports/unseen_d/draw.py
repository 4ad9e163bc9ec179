"""Which half a case of the third collection belongs to: drawn once, before any of these reports was run.

Collected after all rules of the first two collections had been written, by a hand that does not write rules for missed
kinds; what would name a cause was written down before the first run. Neither half is looked at while rules are mended.
"""

from __future__ import annotations

import random

SEED = 28

PLANNED = {
    "graph": """
        mixture_weights_over_the_batch way_around_left_out sum_lost_before_dropout
        backward_direction_read_at_its_start repeated_as_a_whole mask_after_the_softmax
        scores_scaled_after_the_softmax features_of_edges_thrown_out nodes_found_by_batch_size
        causal_softmax_over_queries
        """,
    "target": """
        focal_terms_of_all_pairs column_given_a_further_axis first_class_is_the_background
        class_taken_over_the_anchors ranking_of_zeros_and_ones class_numbers_divided_by_255 targets_in_a_row
        targets_softened_by_temperature
        """,
    "loss": """
        entropy_bonus_with_wrong_sign softmax_for_several_labels critic_ends_in_a_sigmoid
        similarity_without_minus quantile_loss_without_minus angle_beyond_a_turn
        softplus_on_the_log_variance
        """,
    "optimizer": """
        loss_summed_over_the_batch accumulated_and_not_divided target_network_never_updated
        clipped_after_the_step warm_up_starts_again_every_epoch parameter_converted_after_it_was_made
        """,
    "numerics": """
        epsilon_added_to_the_scores variance_overflows_in_half length_of_an_empty_text range_of_equal_values
        kernel_attention_underflows deviation_of_one_advantage
        """,
    "data": """
        statistics_of_another_range one_batch_again_and_again times_rounded_to_float32 bytes_wrap_around
        """,
    "mode": """
        norm_shared_by_two_steps kept_share_given_as_dropped
        """,
    "init": """
        parameter_left_as_memory weights_from_zero_to_one
        """,
}  # fmt: skip

DROPPED: dict[str, str] = {}


def halves(kind: str) -> dict[str, str]:
    """{name: "unseen_c" or "unseen_d"} of one kind."""
    names = sorted(PLANNED[kind].split())
    random.Random(f"{SEED} {kind}").shuffle(names)
    first = (len(names) + len(kind) % 2) // 2
    return {name: "unseen_c" if i < first else "unseen_d" for i, name in enumerate(names)}


HALF = {name: half for kind in PLANNED for name, half in halves(kind).items()}
KIND = {name: kind for kind, names in PLANNED.items() for name in names.split()}
