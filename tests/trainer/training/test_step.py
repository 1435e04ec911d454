"""Steps of an epoch: they do not wait for the device, and what they cost is seen."""

import gzip
import json
import math
import re
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recipes import placed, tiny
from torch.utils._python_dispatch import TorchDispatchMode

from trainer import devices
from trainer.config import from_argv
from trainer.data import augment
from trainer.data.synthetic import write_phantoms
from trainer.devices import cpu, inductor
from trainer.errors import InputError
from trainer.layout import TRACE, state_key
from trainer.models import architectures
from trainer.runs.rank_log import RankLog
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.world import World
from trainer.training import loop, run_data, throughput
from trainer.training.final_scoring import flush
from trainer.training.profiling import TOP, top_operations
from trainer.training.run import why_not_compiled
from trainer.training.step_inputs import EpochInputs

STILL = ("--crop", "center", "--no-flip", "--rotate", "0")

WAITING = ("item", "cpu", "numpy", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__", "nonzero")
"""Methods of a tensor that wait for its device."""

READING = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.equal.default,
}
"""Operations whose result or its shape the host reads."""


def like_cpu(**changes):
    """The CPU as another device."""
    members = {name: getattr(cpu, name) for name in dir(cpu) if not name.startswith("_")}
    return SimpleNamespace(**(members | changes))


class _Reads(TorchDispatchMode):
    def __init__(self, note):
        super().__init__()
        self._note = note

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation in READING:
            self._note(str(operation))
        return operation(*args, **(kwargs or {}))


class Guard:
    """Notes what waits for the device, or copies to it, in the main thread from an epoch's first step on."""

    def __init__(self):
        self.found, self.epochs, self.forbids = [], 0, False

    def note(self, name):
        if self.forbids and threading.current_thread() is threading.main_thread():
            self.found.append(name)

    @contextmanager
    def switched(self, forbids):
        before, self.forbids = self.forbids, forbids
        try:
            yield
        finally:
            self.forbids = before


@pytest.fixture
def guard(monkeypatch):
    """A guard of all epochs: allowed are preparing one, logging, checkpoints, and the exchange of the workers' flags."""
    made = Guard()

    def noting(place, name):
        real = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, **how: (made.note(name), real(*args, **how))[1])

    def allowing(place, name):
        real = getattr(place, name)

        def allowed(*args, **how):
            with made.switched(False):
                return real(*args, **how)

        monkeypatch.setattr(place, name, allowed)

    for name in WAITING:
        noting(torch.Tensor, name)
    for name in ("from_numpy", "tensor", "as_tensor"):
        noting(torch, name)
    for place, name in (
        (loop, "prepare_epoch"),
        (loop, "EpochInputs"),
        (loop, "_log"),
        (loop, "take_checkpoint"),
        (loop._NonFiniteGuard, "check"),
        (Coordination, "sync"),
    ):
        allowing(place, name)
    train_epoch = loop.train_epoch

    def guarded(*args):
        made.epochs += 1
        with made.switched(False), _Reads(made.note):
            return train_epoch(*args)

    def first_of_a_step(*args):
        made.forbids = True
        set_rate(*args)

    set_rate = loop.set_rate
    monkeypatch.setattr(loop, "set_rate", first_of_a_step)
    monkeypatch.setattr(loop, "train_epoch", guarded)
    # An optimiser that counts its steps on the device, as on accelerators.
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(optimizer_options=lambda: {"fused": True}))
    augment._imagenet_scale(torch.device("cpu"))  # copied once per process
    return made


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Sixty small phantoms."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=60, side=48)
    return root


@pytest.fixture
def run(phantoms, tmp_path, tmp_path_factory, monkeypatch):
    """Start a run of one epoch of four steps, without its final evaluation: name and flags to its entry of metrics and its lines."""
    monkeypatch.setattr(loop, "finish", lambda run, *_: flush(run))

    def start(name, *flags):
        lines, cache = [], tmp_path_factory.getbasetemp() / "step-cache"
        words = placed(tiny(1), phantoms, tmp_path, cache, name, *flags)
        loop.train(from_argv([*words, "--no-report"]), World(), Reporter(0, on_line=lines.append), RankLog(0))
        [entry] = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return json.loads(entry), lines

    return start


def test_guard_finds_what_waits_for_the_device(guard, monkeypatch, run):
    """Else the tests below would show nothing."""
    set_rate = loop.set_rate
    monkeypatch.setattr(loop, "set_rate", lambda *args: (set_rate(*args), bool(torch.ones(1) > 0)))
    run("r", "--max-steps", "2")
    assert "__bool__" in guard.found


def test_epoch_waits_for_the_device_only_to_log(guard, run, monkeypatch):
    """Each wait leaves the device idle until the host has queued the next kernels. Some labels are unknown: their weights differ from
    step to step.
    """
    read = run_data.labelled

    def labelled(place, kept_split=None):
        source = read(place, kept_split)
        labels_NK = source.table.labels_NK.copy()
        labels_NK[np.random.default_rng(0).random(labels_NK.shape) < 0.5] = np.nan
        return replace(source, table=replace(source.table, labels_NK=labels_NK))

    monkeypatch.setattr(run_data, "labelled", labelled)
    run("r", "--log-every-steps", "3", "--crop", "resized", "--rotate", "10")
    assert guard.epochs == 1
    assert guard.found == []


@pytest.mark.parametrize("flags", [(), ("--no-cache-features",)], ids=["features", "images"])
def test_epoch_of_a_frozen_backbone_waits_only_to_log(guard, classify, flags):
    classify("r", *STILL, "--epochs", "1", *flags)
    assert guard.epochs == 1
    assert guard.found == []


def compiling_by_default(gaudi_mode, compile_):
    """As a GPU with triton."""
    return "eager" if compile_ == "off" else "compile"


@pytest.mark.parametrize(
    ("device", "flags", "reason"),
    [
        ({"cannot_compile": lambda: "triton is not installed"}, (), "triton is not installed"),
        ({"cannot_compile": lambda: "triton is not installed"}, ("--compile", "off"), None),
        (
            {"choose_mode": compiling_by_default},
            ("--activation-memory", "low"),
            "what `--activation-memory low` computes again is not compiled",
        ),
        ({}, ("--activation-memory", "low"), None),
    ],
    ids=["triton is missing", "off by the user", "low activation memory", "never on this device"],
)
def test_why_a_run_is_not_compiled_is_known(device, flags, reason):
    """Slower than it could be is not seen otherwise."""
    config = from_argv(placed(tiny(1), "data", "out", "out/cache", "r", *flags))
    chosen = like_cpu(**device)
    mode = chosen.choose_mode(None, config.compile_choice)
    assert mode == "eager"
    assert why_not_compiled(SimpleNamespace(config=config, device=chosen, mode=mode)) == reason


def test_compilation_that_is_required_and_does_not_work_is_refused_before_data_is_read(run, monkeypatch):
    monkeypatch.setattr(inductor.shutil, "which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match=r"cannot compile the network on cpu: .*--compile on"):
        run("r", "--compile", "on", "--data", "/nowhere")


def test_run_that_resumes_in_another_mode_says_so(run, monkeypatch):
    """Its numbers differ by rounding from then on."""
    run("r", "--max-steps", "1")
    compiled = like_cpu(choose_mode=compiling_by_default, compiled=lambda module, _: module)
    monkeypatch.setattr(devices, "find", lambda _: compiled)
    _, lines = run("r", "--max-steps", "1")
    assert any(
        "in the mode `eager` and resumes in `compile` (`--compile`): results differ by rounding" in line
        for line in lines
    )


def test_inputs_of_an_epoch_are_those_of_its_steps():
    """A row of another step would train on another image's labels, unnoticed."""
    varied = augment.Augmentation(seed=3, crop="resized", crop_px=32, flip=True, rotate=20.0)
    samples = [np.array([5, 2, 9]), np.array([1, 0, 7])]
    inputs = EpochInputs(samples, 4, partial(varied.draws, side=48), torch.device("cpu"))
    for step, samples_N in enumerate(samples):
        assert inputs.of(step).samples_N.tolist() == samples_N.tolist()
        expected = torch.from_numpy(varied.draws(samples_N, 4, 48))
        assert torch.equal(inputs.of(step).draws_DN, expected)


def test_activations_computed_again_change_no_number():
    """Loss, gradients, and BatchNorm's statistics, which a second forward pass would update twice."""
    torch.manual_seed(0)
    networks = [
        architectures.build("densenet_tiny", "linear", 3, recomputes=recomputes) for recomputes in (False, True)
    ]
    networks[1].load_state_dict(networks[0].state_dict())
    x_NCHW, kept = torch.randn(2, 3, 64, 64), []
    losses = []
    for network in networks:
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each: (kept.append(each.numel()), each)[1], lambda each: each
        ):
            losses.append(network(x_NCHW).square().mean())
        kept.append("end")
        with architectures.in_backward(network):
            losses[-1].backward()
    plain, low = networks
    assert torch.equal(*losses)
    for ours, theirs in zip(low.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)
    for name, ours in low.state_dict().items():
        assert torch.equal(ours, plain.state_dict()[name]), name
    end = kept.index("end")
    assert sum(kept[end + 1 : -1]) < 0.9 * sum(kept[:end])
    with torch.device("meta"):
        large = architectures.build("densenet121", "linear", 3, recomputes=True)
    assert large.features.denseblock4.denselayer16.memory_efficient
    assert all(layer.momentum == 0.1 for layer in low.modules() if isinstance(layer, torch.nn.BatchNorm2d))


def test_run_with_low_activation_memory_has_the_state_of_one_without(run, tmp_path):
    """Weights, statistics and Adam's averages, bit for bit."""
    run("normal")
    _, lines = run("low", "--activation-memory", "low", "--parity-check", "1")
    assert any("parity check passed" in line for line in lines)
    assert not any("without torch.compile" in line for line in lines)  # nothing is, on this device
    normal, low = ((tmp_path / name / state_key(4)).read_bytes() for name in ("normal", "low"))
    assert low == normal


def test_profile_of_the_steps_after_the_warm_up_is_written_into_the_run(run, tmp_path):
    """Training goes on; the trace opens in Chrome and Perfetto."""
    _, lines = run("r", "--profile", "1", "--batch-size", "6")
    trace = json.loads(gzip.decompress((tmp_path / "r" / TRACE).read_bytes()))
    names = [event.get("name", "") for event in trace["traceEvents"]]
    assert sum(name == "Optimizer.step#Adam.step" for name in names) == 1
    [place] = [
        number for number, line in enumerate(lines) if line.startswith("profile of 1 step: `profile/trace.json.gz`")
    ]
    assert re.fullmatch(r"\s*[\d.]+% +[\d.]+ ms +\d+ calls  [aO].*", lines[place + 1])
    assert sum(" calls  " in line for line in lines) == TOP


def test_profile_that_an_epoch_ends_has_fewer_steps(run):
    """Validation is no part of it."""
    entry, lines = run("r", "--profile", "100")
    assert entry["images_per_s"] is None  # profiled steps do not count, and there are no others
    assert entry["peak_memory_bytes"] is None  # the processor does not report it
    assert "device_counters" not in entry
    assert not any("peak_memory" in line for line in lines)
    assert any(line.startswith("profile of 1 step: ") for line in lines)


def test_start_that_is_too_short_for_a_profile_says_so(run, tmp_path):
    """Its third step begins one, which no step follows."""
    _, lines = run("r", "--profile", "2", "--max-steps", "3")
    assert any(line.startswith("no profile: it begins after 3 steps") for line in lines)
    assert not (tmp_path / "r" / TRACE).exists()


def test_top_operations_are_by_time_on_the_device_where_there_is_any():
    one, other = (
        SimpleNamespace(key=key, count=2, self_cpu_time_total=host, self_device_time_total=device)
        for key, host, device in (("a", 10.0, 500.0), ("b", 90.0, 1500.0))
    )
    assert list(top_operations([one, other])) == [
        "   75.0%      1.50 ms      2 calls  b",
        "   25.0%      0.50 ms      2 calls  a",
    ]
    one.self_device_time_total = other.self_device_time_total = 0.0
    assert next(top_operations([one, other])) == "   90.0%      0.09 ms      2 calls  b"


def test_peak_memory_of_an_epoch_is_in_its_entry_and_its_line(run, monkeypatch):
    """Where the device reports it; the process's own memory is not that of tensors."""
    device = like_cpu(peak_memory_bytes=lambda: 3 << 30, cannot_compile=lambda: "triton is not installed")
    monkeypatch.setattr(devices, "find", lambda _: device)
    entry, lines = run("other")
    assert entry["peak_memory_bytes"] == 3 << 30
    assert any(" peak_memory=3.00GiB" in line for line in lines)
    assert lines.count("training without torch.compile: triton is not installed") == 1


def test_operations_that_still_run_on_the_host_are_named(run, monkeypatch):
    """In the warm-up an operation may run there once; afterwards each step waits for it."""
    asked = count()
    counters = lambda: {"graph_compilation": 4, "cpu_fallback/aten::a": 7, "cpu_fallback/aten::b": next(asked)}  # noqa: E731
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(counters=counters))
    entry, lines = run("r")
    [warning] = [line for line in lines if "run on the host" in line]
    assert warning.startswith("warning: cpu has no aten::b: ")
    assert "cpu counted in this start: graph_compilation 4" in lines
    assert entry["device_counters"]["graph_compilation"] == 4


def test_warm_up_of_a_short_epoch_is_no_warning(run, monkeypatch):
    """Each of its operations may run on the host once."""
    asked = count()
    monkeypatch.setattr(devices, "find", lambda _: like_cpu(counters=lambda: {"cpu_fallback/aten::a": next(asked)}))
    _, lines = run("r", "--max-steps", "2")
    assert not any("run on the host" in line for line in lines)


@pytest.mark.parametrize(
    ("flags", "hints"),
    [
        (["--batch-size", "16"], ["--batch-size 8", "--activation-memory low", "--crop-px"]),
        (
            ["--batch-size", "8", "--precision", "fp32", "--activation-memory", "low"],
            ["--batch-size 4", "--precision bf16", "--crop-px"],
        ),
        (["--model", "vgg16", "--batch-size", "1"], ["--crop-px"]),
        (["--global-batch-size", "64"], ["--global-batch-size 32", "--activation-memory low", "--crop-px"]),
        (["--model", "vgg16", "--batch-size", "1", "--crop-px", "32"], ["more memory"]),
    ],
)
def test_flags_to_lower_are_those_that_can_be_lowered(flags, hints):
    """On four workers."""
    config = from_argv(placed(tiny(1, "--crop-px", "34", batch=""), "data", "out", "out/cache", "r", *flags))
    hint = loop.out_of_memory(config, World(size=4), "words").hint
    for flag in ("--batch-size", "--global-batch-size", "--activation-memory", "--precision", "--crop-px"):
        assert (flag in hint) == any(each.startswith(flag) for each in hints)
    assert all(each in hint for each in hints)


def test_memory_that_runs_out_in_a_step_is_named_with_the_batch(run, monkeypatch):
    def step(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(InputError, match=r"on 8 images of 32 x 32 pixels per worker and step: out of memory \(CUDA"):
        run("r")


@pytest.mark.parametrize("compiles", [True, False])
def test_steps_that_compile_are_no_part_of_the_throughput(monkeypatch, compiles):
    """An epoch of a few steps has none then; otherwise its warm-up is better than nothing."""
    clock = [0.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    meter = throughput.Meter(SimpleNamespace(waited_s=0.0), 8, compiles=compiles)
    rates = []
    for step, seconds in enumerate([100.0, 50.0, 50.0, 2.0, 2.0], start=1):
        clock[0] += seconds
        meter.count(step)
        rates.append(meter.images_per_s())
    warm_up = [math.nan, math.nan] if compiles else [0.08, 16 / 150]
    assert rates == pytest.approx([*warm_up, math.nan, 4.0, 4.0], nan_ok=True)


def test_profiled_steps_are_no_part_of_the_throughput(monkeypatch):
    """Nor is the time in which the trace is written, nor their wait for data."""
    clock, loader = [0.0], SimpleNamespace(waited_s=0.0)
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: clock[0])
    meter = throughput.Meter(loader, 8, compiles=False)
    for step, (seconds, waited_s) in enumerate([(9.0, 0.0)] * 3 + [(2.0, 1.0), (50.0, 40.0), (2.0, 1.0)], start=1):
        clock[0] += seconds
        loader.waited_s += waited_s
        meter.count(step, measured=step != 5)
    assert meter.images_per_s() == 4.0
    assert meter.data_wait_share() == 0.5
