"""Every sick case is named by its rule, and what only looks like it gets no alarm."""

from __future__ import annotations

import warnings

import function_cases as cases
import pytest
import torch

import unitgain as ug
from unitgain.report import Report

# what names the same trouble as well, or is a second fault of the case
ALSO = {
    "weights_drawn_anew_in_forward": {"UG501"},  # the loss leaps about as it would at too high a rate
    "dropout_of_everything": {"UG102"},  # which is its cause
    "layers_in_a_list": {"UG304"},  # narrow layers at their random start
    "statistics_of_the_last_batch_alone": {"UG602"},  # a momentum of one
    "averages_of_ones_own_that_are_never_kept": {"UG201"},
    "another_head_in_evaluation": {"UG403"},  # the second head is never trained
    "an_optimizer_that_goes_uphill": {"UG504"},
    "a_backward_pass_that_mixes_the_units": {"UG501"},
    "one_answer_after_a_rate_too_high": {"UG501", "UG502", "UG504"},
    "half_a_chance_after_the_units_died": {"UG501", "UG504"},
    "images_with_one_answer": {"UG501", "UG504"},
    "a_decay_along_the_wrong_axis": {"UG803"},  # two weights in series
    "targets_in_another_order_at_each_step": {"UG116"},  # which is what it is
    "a_mask_that_masks_nothing": {"UG810"},  # which is its cause
    "result_of_relu_not_kept": {"UG810"},  # likewise
    "scores_of_all_classes_made_small": {"UG119"},  # which is its cause: the loss has no lowest point
    "energy_of_the_own_class_added": {"UG119"},  # likewise
    "yes_and_no_confused_for_the_own_class": {"UG119"},  # likewise
    # healthy in what is asked here
    "columns_of_a_table_with_zeros": {"UG101"},  # sums of eight embeddings are large
    "cosines_with_a_scale": {"UG101"},  # ten times cosines are confident
    "list_of_layers_that_the_optimizer_holds": {"UG304"},
    "a_model_trained_to_the_end": {"UG502"},
    "fine_tuning_with_a_small_rate": {"UG502"},
    "masks_added_twice": {"UG406"},  # half precision without a scale for the loss
}
NOT_NAMED = {  # the loss falls to a constant's at first, as it does in the healthy
    "inputs_that_forward_replaces_by_noise",
    "cross_attention_over_the_queries",  # learned queries: as tokens are assigned to prototypes, rightly
}


def checked(row: cases.Row) -> Report:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of what the sick do
        model, batch, further = row.build()
        return ug.check(model, batch, **further)


def alarms(report: Report) -> set[str]:
    return {f.code for f in report.findings if f.severity != "info"}


@pytest.mark.parametrize("row", [r for r in cases.ROWS if r.sick], ids=lambda row: row.name)
def test_a_sick_case_is_named_and_nothing_else_is(row: cases.Row) -> None:
    report = checked(row)
    below = {line.split()[0] for f in report.findings for line in f.consequences}
    also = ALSO.get(row.name, set())
    if row.name not in NOT_NAMED:
        assert ({row.rule} & (alarms(report) | below)) or (also & alarms(report)), report
    assert alarms(report) <= {row.rule} | also, report


@pytest.mark.parametrize("row", [r for r in cases.ROWS if not r.sick], ids=lambda row: row.name)
def test_a_healthy_look_alike_gets_no_alarm(row: cases.Row) -> None:
    report = checked(row)
    assert alarms(report) <= ALSO.get(row.name, set()), report


def test_each_rule_has_at_least_six_of_either_kind_and_half_of_them_held_out() -> None:
    for rule, part in {(row.rule, row.part) for row in cases.ROWS}:
        for is_sick in (True, False):
            names = [r.name for r in cases.ROWS if (r.rule, r.part, r.sick) == (rule, part, is_sick)]
            assert len(names) >= 6
            assert len(cases.HELD_OUT.intersection(names)) == len(names) // 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("outputs_detached_in_the_loss", "Take away .detach() at cases_gradients.py:"),
        ("features_detached_before_the_head", "Take away .detach() at cases_gradients.py:"),
        (
            "error_of_the_predicted_class",
            "Put something with a slope in the place of .argmax() at cases_gradients.py:",
        ),
        (
            "a_new_tensor_of_the_features",
            "Compute with tensors throughout, without .tolist() at cases_gradients.py:",
        ),
    ],
)
def test_the_first_action_is_to_mend_the_line_that_cuts_the_gradient(name: str, words: str) -> None:
    """It used to be to look for such a line, although the cause named it."""
    (row,) = [row for row in cases.ROWS if row.name == name]
    report = checked(row)
    (finding,) = [f for f in report.findings if f.code == "UG403"]
    assert finding.remedy.startswith(words)
    assert report.diagnosis.first_action == finding.remedy


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transformer_without_a_mask", "Give block.self_attn a causal mask"),
        ("lstm_of_both_directions", "Build rnn with bidirectional=False."),
        ("convolution_centred_on_the_token", "Pad the input of conv on the left alone: padding=0, and F.pad"),
        ("mean_of_all_tokens_added", "Mask the named module"),
    ],
)
def test_the_first_action_is_the_one_for_the_layer_that_sees_the_future(name: str, words: str) -> None:
    """All of them used to stand in one sentence, for whatever layer."""
    (row,) = [row for row in cases.ROWS if row.name == name]
    assert checked(row).diagnosis.first_action.startswith(words)


def test_zeros_in_the_outputs_of_a_loss_that_is_not_finite_are_named() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
    report = ug.check(model, (torch.randn(64, 8), torch.rand(64, 16)), lambda o, t: -(t * o.log()).mean())
    (finding,) = [f for f in report.findings if f.code == "UG104"]
    assert "of the outputs are zero: if it takes their logarithm or divides by them" in finding.cause


def test_negative_outputs_of_a_loss_that_is_nan_are_named() -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 16)
    report = ug.check(model, (torch.randn(64, 8), torch.rand(64, 16)), lambda o, t: -(t * o.log()).mean())
    (finding,) = [f for f in report.findings if f.code == "UG104"]
    assert "if it takes their logarithm or root, that is NaN" in finding.cause
