"""Time per batch on several devices: what is counted, what is refused, and what is printed."""

import json

import pytest
import torch

from trainer import devices
from trainer.__main__ import main
from trainer.devices import cpu
from trainer.errors import InputError, JobFailedError
from trainer.runtime.console import Reporter
from trainer.training import bench
from trainer.training.bench import Timing, Workload, as_json, as_table, devices_named, timed

TINY = ["--model", "densenet_tiny", "--batch-size", "2", "--crop-px", "32", "--steps", "2", "--device", "cpu"]


def workload(**changes):
    """A tiny one."""
    plain = {"head": "linear", "frozen": False, "mode": "train", "batch_size": 2, "crop_px": 32, "steps": 2}
    return Workload(model="densenet_tiny", **plain | changes)


@pytest.mark.parametrize(
    "flags",
    [[], ["--mode", "predict"], ["--head", "hidden", "--backbone", "frozen"], ["--precision", "bf16"]],
    ids=lambda flags: " ".join(flags) or "train",
)
def test_each_kind_of_work_is_timed(flags, capsys):
    """The paper's is a frozen backbone with hidden layers; stdout is data only."""
    assert main(["bench", *TINY, "--format", "json", *flags]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    (device,) = document["devices"]
    assert (device["device"], device["precision"]) == ("cpu", "bf16" if "bf16" in flags else "fp32")
    assert len(device["seconds"]) == 2
    assert all(seconds > 0 for seconds in device["seconds"])
    assert device["peak_memory_bytes"] is None
    assert device["times_as_fast_as_first"] == 1
    assert document["mode"] == ("predict" if "predict" in flags else "train")
    assert document["backbone"] == ("frozen" if "frozen" in flags else "trained")
    assert "timing cpu 1/5" in err


def test_steps_of_warm_up_are_run_and_not_counted(monkeypatch):
    """The first batches compile and allocate: on Gaudi they take seconds, and would be all that is seen."""
    ran = []
    monkeypatch.setattr(bench, "_step", lambda *_: lambda: torch.tensor(float(ran.append(1) or len(ran))))
    monkeypatch.setattr(bench, "_timed_step", lambda step, _: step().item())
    assert timed(cpu, workload(steps=4), "auto", Reporter(1)).seconds == (4, 5, 6, 7)


def test_training_step_trains_and_a_frozen_one_its_head_alone(monkeypatch):
    """A benchmark that leaves out half of the work compares nothing."""
    networks = []
    build = bench.architectures.build
    monkeypatch.setattr(bench.architectures, "build", lambda *args: networks.append(build(*args)) or networks[-1])
    for frozen in (False, True):
        step = bench._step(cpu, torch.device("cpu"), workload(frozen=frozen), "fp32")
        before = {name: value.clone() for name, value in networks[-1].state_dict().items()}
        assert step().isfinite()
        after = networks[-1].state_dict()
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        heads = {"classifier.weight", "classifier.bias"}
        assert changed == heads if frozen else changed > heads


def test_device_that_is_not_there_is_an_error_before_anything_is_timed(monkeypatch, capsys):
    """Minutes on the processor, then an error, is the wrong order."""
    if devices.load("hpu").missing() is None:
        pytest.skip("an accelerator is here")
    monkeypatch.setattr(bench, "_step", lambda *_: pytest.fail("timed"))
    assert main(["bench", "--device", "cpu,hpu"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: cannot use hpu: ")


@pytest.mark.parametrize(
    ("text", "reason"), [("gpu", "no such device"), ("cpu,,cuda", "``: no such"), ("cpu,cpu", "with itself")]
)
def test_list_of_devices_is_checked_by_name(text, reason):
    """A typing slip is the user's to see, not a traceback."""
    with pytest.raises(InputError, match=reason):
        devices_named(text)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--batch-size", "1"], "--batch-size 1: it must be from 2 to 65536"),
        (["--crop-px", "16"], "--crop-px 16"),
        (["--steps", "0"], "--steps 0"),
        (
            ["--mode", "predict", "--backbone", "frozen"],
            "cannot freeze the backbone of a prediction: got --backbone frozen and --mode predict",
        ),
    ],
)
def test_invalid_flags_are_refused_by_name(flags, reason, capsys):
    """BatchNorm has no variance of one value; the flag is named."""
    assert main(["bench", *flags]) == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), JobFailedError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), JobFailedError),
        (RuntimeError("size mismatch"), RuntimeError),
    ],
)
def test_batch_that_does_not_fit_is_an_error_that_suggests_a_smaller_one(monkeypatch, error, raised):
    """And another error is not taken for it."""

    def refuse(*_):
        raise error

    monkeypatch.setattr(bench, "_step", refuse)
    with pytest.raises(raised) as refusal:
        timed(cpu, workload(batch_size=64), "auto", Reporter(1))
    assert getattr(refusal.value, "hint", None) == ("--batch-size 32" if raised is JobFailedError else None)


def test_table_shows_speed_relative_to_the_first_device():
    """The paper's figure: 4.964 s on the processor, 0.368 s on the GPU."""
    timings = [
        Timing("cpu", "28 threads", "fp32", 64, (4.964, 4.9, 5.1), None),
        Timing("cuda", "V100", "bf16", 64, (0.368, 0.36, 0.5), 3 * 2**30),
    ]
    *_, head, first, second = as_table(timings, workload(batch_size=64, steps=3)).splitlines()
    assert head.split() == [
        "device",
        "precision",
        "median",
        "min",
        "max",
        "images/s",
        "peak",
        "GiB",
        "speed",
        "hardware",
    ]
    assert first.split() == ["cpu", "fp32", "4.9640", "4.9000", "5.1000", "12.9", "-", "1.0", "x", "28", "threads"]
    assert second.split() == ["cuda", "bf16", "0.3680", "0.3600", "0.5000", "173.9", "3.00", "13.5", "x", "V100"]
    document = as_json(timings, workload(batch_size=64, steps=3))
    assert document["devices"][1]["times_as_fast_as_first"] == pytest.approx(13.489, abs=1e-3)
    assert document["devices"][1]["peak_memory_bytes"] == 3 * 2**30


def test_progress_goes_to_standard_error(capsys):
    """Data can be piped."""
    assert main(["bench", *TINY]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("densenet_tiny, head linear, training: seconds per batch of 2 images of 32 x 32")
    assert "timing" not in out
