"""UnitGainCallback in Hugging Face's Trainer, and accelerate with plain Probe and AGC."""

# the libraries are optional
# pyright: reportMissingImports=false
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import unitgain as ug
from unitgain.integrations import FindingsError

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("torchvision_operators")]


def gpt2():
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=16, vocab_size=32, n_positions=16, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config)


def tokens(count: int = 48):
    drawn = torch.randint(32, (count, 12), generator=torch.Generator().manual_seed(0))
    return [{"input_ids": row, "labels": row} for row in drawn]


def trained(tmp_path, callbacks=(), model=None, **options):
    model = gpt2() if model is None else model
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), **{
            "max_steps": 12, "per_device_train_batch_size": 4, "logging_steps": 3, "report_to": [], "use_cpu": True,
            "disable_tqdm": True, "save_strategy": "no", "learning_rate": 1e-2, **options,
        }
    )  # fmt: skip
    trainer = transformers.Trainer(model, args, train_dataset=tokens(), callbacks=list(callbacks))
    trainer.train(resume_from_checkpoint=options.get("resume_from_checkpoint"))
    return model


@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2, "max_steps": 6}, {"bf16": True}])
def test_training_is_bit_for_bit_the_same_with_the_callback(tmp_path, same_weights, options) -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    callback = UnitGainCallback(every=2)
    assert same_weights(trained(tmp_path, [callback], **options), trained(tmp_path, **options))
    record = callback.report.record
    assert record.steps() == list(range(0, options.get("max_steps", 12), 2))
    assert len(record.sites("update")) == len(list(gpt2().parameters()))
    assert record.metric("loss")[0].tolist()[0] == 2


def test_its_numbers_are_those_of_a_plain_loop(tmp_path, assert_same_record) -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    callback = UnitGainCallback(every=3)
    trained(tmp_path, [callback], lr_scheduler_type="constant", max_grad_norm=0.0, optim="sgd")
    model = gpt2()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    order = torch.utils.data.DataLoader(
        tokens(),
        batch_size=4,
        sampler=_TrainersOrder(tmp_path),
        collate_fn=transformers.default_data_collator,
    )
    with ug.Probe(model, optimizer, every=3) as probe:
        for batch in order:
            count = batch["labels"].numel()  # by which Trainer divides, the first tokens included
            model(**batch, use_cache=False, num_items_in_batch=count).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert_same_record(callback.report.record, probe.record, kinds=("parameter_gradient", "update"))


class _TrainersOrder(torch.utils.data.Sampler):
    """The order in which Trainer reads with its default seed."""

    def __init__(self, tmp_path):
        given = tokens()
        seen: list[int] = []

        def collate(rows):
            for row in rows:
                seen.append(
                    next(i for i, t in enumerate(given) if torch.equal(t["input_ids"], row["input_ids"]))
                )
            return transformers.default_data_collator(rows)

        args = transformers.TrainingArguments(
            output_dir=str(tmp_path), max_steps=12, per_device_train_batch_size=4, report_to=[], use_cpu=True,
            disable_tqdm=True, save_strategy="no",
        )  # fmt: skip
        transformers.Trainer(gpt2(), args, train_dataset=given, data_collator=collate).train()
        self.order = seen[:48]

    def __iter__(self):
        return iter(self.order)

    def __len__(self):
        return len(self.order)


def test_a_resumed_run_goes_on_counting(tmp_path) -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    path = tmp_path / "run.sqlite"
    trained(tmp_path, [UnitGainCallback(2, path)], max_steps=6, save_strategy="steps", save_steps=6)
    callback = UnitGainCallback(2, path)
    trained(tmp_path, [callback], max_steps=12, resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert callback.report.record.steps() == [0, 2, 4, 6, 8, 10]


def test_training_ends_at_an_error_where_that_is_asked_for(tmp_path, capsys) -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    model = gpt2()
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight[0, 0] = float("nan")
    callback = UnitGainCallback(every=2, fail_on="error")
    with pytest.raises(FindingsError, match="training was ended at step 1 by fail_on: error UG306"):
        trained(tmp_path, [callback], model=model)
    told = capsys.readouterr()
    assert "UG306" in told.err
    assert "Not judged" in told.out  # the report to its end
    assert "omitted" not in told.out


def test_accelerate_s_prepared_objects_are_taken_as_they_are(small, same_weights) -> None:
    from accelerate import Accelerator

    def train(watch: bool):
        accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
        model = small.model()
        loader = torch.utils.data.DataLoader(small.dataset(), batch_size=16)
        model, optimizer, loader = accelerator.prepare(model, small.optimizer(model), loader)
        agc = ug.optim.AGC(optimizer, model, clipping=0.05) if watch else None
        probe = ug.Probe(model, optimizer, every=1) if watch else None
        if probe is not None:
            probe.start()
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(F.cross_entropy(model(x), y))
                optimizer.step()
                optimizer.zero_grad()
        if probe is None or agc is None:
            return model, None
        probe.stop()
        agc.remove()
        return model, probe.record

    _, record = train(True)
    assert record.steps() == list(range(12))  # of 24 batches, two by two
    assert len(record.sites("update")) == 6
    assert isinstance(train(False)[0], nn.Module)


def test_a_training_that_was_interrupted_has_its_report_and_leaves_no_second_probe(tmp_path) -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    class Interrupted(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    callback, model = UnitGainCallback(every=1), gpt2()
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, [callback, Interrupted()], model)
    assert callback.report.record.steps() == [0, 1, 2, 3, 4]
    first = callback.watch
    trained(tmp_path, [callback], model)
    assert len(callback.report.record.steps()) == 12
    assert len(first.record.steps()) == 5


def test_wrong_arguments_are_refused_when_the_callback_is_made() -> None:
    from unitgain.integrations.transformers import UnitGainCallback

    for arguments in ({"evry": 3}, {"to": "run.sqlite"}, {"select": ["UG999"]}):
        with pytest.raises(ug.InputError):
            UnitGainCallback(**arguments)
    UnitGainCallback(to="auto")
