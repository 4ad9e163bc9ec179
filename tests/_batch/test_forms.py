"""Every form of a batch x everything that can be done with one x everyone who takes one. The rows are in forms.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from forms import FORMS, Form
from torch import Tensor, nn

import unitgain as ug
from unitgain import InputError
from unitgain._batch import Batch, map_tensors, read_batch
from unitgain._batch.objective import Objective
from unitgain._batch.tree import named_tensors, parts
from unitgain.stats import is_plain, stored

# said by torch once a process, of what the caller has made
pytestmark = pytest.mark.filterwarnings("ignore:.*(Sparse CSR|nested tensors).*:UserWarning")

every_form = pytest.mark.parametrize("name", FORMS)


def read(form: Form, model: nn.Module | None = None) -> Batch:
    return read_batch(form.batch(), model or form.model(), Objective(form.loss).pass_target)


def same(a: Any, b: Any) -> bool:
    """Equal in structure, types and values; tensors of any layout."""
    if isinstance(a, Tensor):
        return (
            isinstance(b, Tensor)
            and a.layout == b.layout
            and a.dtype == b.dtype
            and torch.equal(stored(a), stored(b))
        )
    inner, other = parts(a), parts(b)
    if inner is None or other is None:
        return inner is other is None and bool((a == b) if not hasattr(a, "shape") else (a == b).all())
    return (
        type(a) is type(b)
        and [key for key, _ in inner] == [key for key, _ in other]
        and all(same(x, y) for (_, x), (_, y) in zip(inner, other))
    )


def whole(batch: Batch) -> tuple[Any, ...]:
    return batch.args, dict(batch.kwargs), batch.target


# ---- operations --------------------------------------------------------------------------------------------


def test_there_are_many_forms_and_their_names_are_told_apart() -> None:
    assert len(FORMS) >= 25


@every_form
def test_what_goes_into_the_model_and_what_it_is_compared_with_are_found(name: str) -> None:
    form = FORMS[name]
    batch = read(form)
    assert tuple(batch.inputs()) == form.inputs
    assert batch.examples == form.examples
    assert (batch.target is not None) == form.target
    assert batch.passed == form.passed


@every_form
def test_the_model_can_be_called_with_it(name: str) -> None:
    form = FORMS[name]
    model, batch = form.model(), read(form)
    judged = Objective(form.loss).judge(model(*batch.args, **batch.kwargs), batch)
    assert judged.name == form.name


@every_form
def test_mapping_over_the_tensors_keeps_every_container_s_type(name: str) -> None:
    batch = read(FORMS[name])
    mapped = batch.map(lambda tensor: tensor)
    assert isinstance(mapped.args, tuple)
    # what cannot be written to becomes a dict
    assert same(whole(mapped), whole(batch))
    assert mapped.passed == batch.passed
    kinds = {type(part) for part in (*batch.args, *batch.kwargs.values())}
    assert kinds == {type(part) for part in (*mapped.args, *mapped.kwargs.values())}


@every_form
def test_a_clone_shares_no_memory_and_no_container(name: str) -> None:
    batch = read(FORMS[name])
    clone = batch.clone()
    assert same(whole(clone), whole(batch))
    mine = {id(t) for _, t in named_tensors(whole(batch))}
    for _, tensor in named_tensors(whole(clone)):
        assert id(tensor) not in mine
        if tensor.layout is torch.strided and tensor.is_floating_point():
            tensor.mul_(0).add_(7) if not tensor.is_nested else tensor.mul_(0)
    assert same(whole(read(FORMS[name])), whole(batch))
    for one, other in zip((*batch.args, *batch.kwargs.values()), (*clone.args, *clone.kwargs.values())):
        assert one is not other


@every_form
def test_examples_can_be_chosen_and_the_model_takes_them(name: str) -> None:
    form = FORMS[name]
    model, batch = form.model(), read(form)
    if not form.slices:
        with pytest.raises(InputError, match=r"taken apart|relates the examples"):
            batch.select([0, 1])
        return
    some = batch.select([4, 2, 6])
    assert some.examples == 3
    outputs, few = model(*batch.args, **batch.kwargs), model(*some.args, **some.kwargs)
    one, other = (ug._batch.find_logits(out) for out in (outputs, few))
    if one is not None and one.dim() == 2:
        assert torch.allclose(one[[4, 2, 6]], other, atol=1e-5)
    assert batch.first(1000).examples == form.examples


@every_form
def test_an_input_can_be_replaced_and_nothing_else_changes(name: str) -> None:
    batch = read(FORMS[name])
    for key, tensor in list(batch.floating().items())[:3]:
        new = tensor.detach().clone()
        changed = batch.with_inputs({key: new})
        assert changed.inputs()[key] is new
        assert all(t is batch.inputs()[k] for k, t in changed.inputs().items() if k != key)
    with pytest.raises(InputError, match=r"batch: it has no input\[nowhere\]; it has input"):
        batch.with_inputs({"input[nowhere]": torch.ones(1)})


@every_form
def test_a_batch_describes_itself_in_one_line(name: str) -> None:
    text = read(FORMS[name]).describe()
    assert "(" in text
    assert "\n" not in text
    assert len(text) < 250


@every_form
def test_moving_to_a_device_keeps_the_form(name: str) -> None:
    batch = read(FORMS[name])
    assert same(whole(batch.to("cpu")), whole(batch))
    moved = batch.to("meta") if not any(t.is_nested for t in batch.tensors()) else batch.to("cpu")
    assert [str(t.device) for t in moved.tensors()] in (
        ["meta"] * len(moved.tensors()),
        ["cpu"] * len(moved.tensors()),
    )


# ---- users -------------------------------------------------------------------------------------------------


class Spoils:
    """Whoever gets the batch works in place on its tensors, and takes what is in its dicts and lists away."""

    def __call__(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.empty = []

        def spoil(tensor: Tensor) -> Tensor:
            with torch.no_grad():
                if tensor.layout is torch.strided and tensor.is_floating_point():
                    tensor.mul_(1.0 + 2**-10)
            return tensor

        map_tensors((args, kwargs), spoil)
        for value in (*args, *kwargs.values()):
            if type(value) is list:
                value.append(value[0])
                value.pop()


def spoiling(form: Form) -> nn.Module:
    torch.manual_seed(0)
    model = form.model()
    model.register_forward_pre_hook(Spoils(), with_kwargs=True)
    return model


def use_check(form: Form, model: nn.Module, batch: Any) -> None:
    facts = ug.check(model, batch, form.loss).record.facts
    assert facts.loss.name == form.name
    assert facts.gradient_source == ("random" if form.name is None else "loss")
    assert facts.gradients.reached == facts.gradients.of


def use_steps(form: Form, model: nn.Module, batch: Any) -> None:
    if form.name is None:
        with pytest.raises(InputError, match="needs a loss"):
            ug.check(model, batch, form.loss, steps=2)
        return
    record = ug.check(model, batch, form.loss, steps=2, data=[form.batch(), form.batch()]).record
    assert record.metric("loss")[0].tolist() == [0, 1]
    assert record.values("update", 1)


def use_fix(form: Form, model: nn.Module, batch: Any) -> None:
    ug.fix(model, batch, form.loss, dry_run=True)


def use_spp(form: Form, model: nn.Module, batch: Any) -> None:
    record = ug.spp(model, batch)
    assert [s.attributes["block"] for s in record.sites("activation")].count("block") == 2


def use_init(form: Form, model: nn.Module, batch: Any) -> None:
    report = ug.init_(model, batch=batch)
    assert "head.weight" in {change.name for change in report.changes}


def use_lsuv(form: Form, model: nn.Module, batch: Any) -> None:
    report = ug.lsuv_(model, batch)
    assert {m.name: m.status for m in report.measured}["head"].startswith("reached")


def use_learner(form: Form, model: nn.Module, batch: Any) -> None:
    learn = ug.train.Learner(
        model, [batch, batch], form.loss, lambda p: torch.optim.SGD(p, 0.01),
        [ug.train.Metrics(), ug.train.Recorder(), ug.train.StopOnNonFinite(), ug.train.Device("cpu")],
    )  # fmt: skip
    if form.name is None:
        with pytest.raises(InputError, match="no target and the model's output carries no loss"):
            learn.fit(1)
        return
    learn.fit(1)
    assert learn.steps == 2
    assert learn.examples == form.examples
    assert learn.record.facts.loss.name == form.name


def use_lr_find(form: Form, model: nn.Module, batch: Any) -> None:
    if form.name is None:
        return
    learn = ug.train.Learner(model, [batch], form.loss, lambda p: torch.optim.SGD(p, 0.01))
    assert len(learn.lr_find(steps=10, trials=1).rates) > 2


def use_summary(form: Form, model: nn.Module, batch: Any) -> None:
    learn = ug.train.Learner(model, [batch], form.loss, lambda p: torch.optim.SGD(p, 0.1))
    if any(tensor.is_nested for _, tensor in named_tensors(batch)):
        with pytest.raises(InputError, match="no FLOPs of nested tensors"):
            learn.summary()
        return
    assert learn.summary().flops > 0


USERS: dict[str, Callable[[Form, nn.Module, Any], None]] = {
    "check": use_check, "check with steps": use_steps, "fix": use_fix, "spp": use_spp, "init_": use_init,
    "lsuv_": use_lsuv, "Learner": use_learner, "lr_find": use_lr_find, "summary": use_summary,
}  # fmt: skip
WORK_ON_THE_BATCH_ITSELF = ("Learner", "lr_find")  # as a loop of one's own does


@pytest.mark.parametrize("user", USERS)
@every_form
def test_everyone_takes_it_and_leaves_it_as_it_was(name: str, user: str) -> None:
    form = FORMS[name]
    batch = form.batch()
    model = form.model() if user in WORK_ON_THE_BATCH_ITSELF else spoiling(form)
    USERS[user](form, model, batch)
    assert same(batch, form.batch())


@every_form
def test_fix_normalizes_the_input_of_every_form_that_has_a_plain_one(name: str) -> None:
    form = FORMS[name]
    if not form.normalizes:
        return
    torch.manual_seed(0)
    model, batch = form.model(), form.batch()
    floats = [id(t) for t in read_batch(batch, model).floating().values()]
    scaled = map_tensors(batch, lambda t: t * 5 + 20 if id(t) in floats and is_plain(t) else t)
    result = ug.fix(model, scaled, form.loss, only=["UG201"], dry_run=True, prove=False)
    wanted = [f.site for f in result.before.findings if f.code == "UG201"]
    assert wanted
    assert [a.site for a in result.actions if a.code == "UG201"] == wanted
    assert set(result.inputs) == set(wanted)
    assert "UG201" not in {f.code for f in result.after.findings}
