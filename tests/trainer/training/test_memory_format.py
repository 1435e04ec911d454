"""Memory format: which one a start trains in, and that a run keeps the one it began with."""

import json
from types import SimpleNamespace

import pytest
import torch
from recipes import placed, tiny

from trainer.config import from_argv
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu
from trainer.errors import InputError
from trainer.layout import predictions_key, state_key
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.world import World
from trainer.training import loop
from trainer.training.loop import train, train_step
from trainer.training.memory_format import format_to_use
from trainer.training.snapshot import from_bytes

LAST = 4
"""Step of the last checkpoint, in the middle of the second epoch."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=30, side=48)
    return root


@pytest.fixture(scope="module")
def run(phantoms, tmp_path_factory):
    """Start or go on with a run; returns its folder."""
    output, cache = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("cache")

    def start(name, steps=LAST, *flags):
        words = placed(tiny(2), phantoms, output, cache, name, "--max-steps", str(steps), *flags)
        train(from_argv([*words, "--no-report"]), World(), Reporter(0), RankLog(0))
        return output / name

    return start


@pytest.fixture(scope="module")
def unbroken(run):
    """A run in channels_last."""
    return run("unbroken")


@pytest.fixture
def before(monkeypatch, run):
    """As `run`, by a version that trained in NCHW on processors and did not record it."""

    def start(*given):
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "memory_format", torch.contiguous_format)
            root = run(*given)
        change_record(root, memory_format=None)
        return root

    return start


def change_record(root, **changes):
    """Set keys of run.json; None removes one."""
    record = json.loads((root / "run.json").read_text()) | changes
    (root / "run.json").write_text(json.dumps({key: value for key, value in record.items() if value is not None}))


def format_of(root):
    return json.loads((root / "run.json").read_text())["memory_format"]


def last_state(root):
    return (root / state_key(LAST)).read_bytes()


def in_channels_last(tensor):
    return tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (None, "channels_last"),
        ({"device": "cpu", "memory_format": "contiguous"}, "contiguous"),
        ({"device": "cpu", "memory_format": "channels_last"}, "channels_last"),
        ({"device": "cpu"}, "contiguous"),
        ({}, "contiguous"),
        ({"device": "cuda"}, "channels_last"),
        ({"device": "hpu", "memory_format": "contiguous"}, "channels_last"),
    ],
)
def test_format_is_that_of_the_run_on_its_kind_of_device(record, expected):
    assert format_to_use(record, cpu) == expected


def test_device_that_has_always_had_its_format_keeps_it():
    """Gaudi must not have channels_last, and GPUs had it before it was recorded."""
    card = SimpleNamespace(name="card", memory_format=torch.channels_last, unrecorded_memory_format=torch.channels_last)
    assert format_to_use({"device": "card"}, card) == "channels_last"
    assert format_to_use({"device": "cpu", "memory_format": "contiguous"}, card) == "channels_last"


def test_unknown_format_is_refused_by_name():
    with pytest.raises(InputError, match=r"memory format is `blocked` \(from run.json\).* channels_last, contiguous"):
        format_to_use({"device": "cpu", "memory_format": "blocked"}, cpu)


def test_network_input_and_moments_of_each_step_are_in_channels_last(run, monkeypatch):
    """Also after a resume, which loads them from tensors in another format."""
    others, inputs = [], []

    def checked(run, training, batch, epoch):
        training.parallel.register_forward_pre_hook(lambda _, views: inputs.append(in_channels_last(views[0])))
        result = train_step(run, training, batch, epoch)
        others.extend(
            name for name, each in training.network.named_parameters() if each.dim() == 4 and not in_channels_last(each)
        )
        for parameter, moments in training.optimizer.state.items():
            others.extend(name for name in ("exp_avg", "exp_avg_sq") if moments[name].stride() != parameter.stride())
        return result

    monkeypatch.setattr(loop, "train_step", checked)
    root = run("watched", 2)
    run("watched")
    assert others == []
    assert set(inputs) == {True}
    assert format_of(root) == "channels_last"
    state = from_bytes(last_state(root))
    assert all(tensor.is_contiguous() for tensor in state.model.values()), "others read the weights, too"


def test_run_begun_before_the_format_was_recorded_goes_on_bit_for_bit(run, before, unbroken):
    whole = before("whole")
    begun = before("begun", 3)
    assert last_state(run("begun")) == last_state(whole)
    assert (begun / predictions_key("val")).read_bytes() == (whole / predictions_key("val")).read_bytes()
    assert format_of(begun) == "contiguous"
    assert last_state(unbroken) != last_state(whole), "the formats round otherwise, so equal bytes mean the same format"


def test_run_that_comes_from_another_device_takes_the_format_of_this_one(run, before):
    """Its moments too: a fused optimiser refuses others, and weights stay the same numbers."""
    root = before("moved", 3)
    change_record(root, device="hpu", memory_format="contiguous")
    run("moved")
    assert format_of(root) == "channels_last"
    moments = from_bytes(last_state(root)).optimizer["state"]
    assert all(in_channels_last(each["exp_avg"]) for each in moments.values() if each["exp_avg"].dim() == 4)
