"""Event files that TensorBoard itself reads: steps, values, and nothing twice after a restart."""

import itertools
import subprocess
import sys

import pytest

from trainer.runs.tensorboard import Curves, of_epoch


def write(folder, taken):
    """Put a publication where a run would."""
    key, content = taken
    (folder / key).parent.mkdir(exist_ok=True)
    (folder / key).write_bytes(content)


def read(folder):
    """All scalars of the folder as TensorBoard shows them: (step, value) by tag."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"), {SCALARS: 0}).Reload()
    return {
        tag: [(event.step, pytest.approx(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()[SCALARS]
    }


def test_scalars_of_several_uploads_are_one_curve(tmp_path):
    """Each epoch is a file of its own; together they must read as one run."""
    curves = Curves(first_step=1, started_s=1_700_000_000.9, clock=itertools.count(1_700_000_001).__next__)
    curves.add(20, {"train/loss": 0.5, "train/lr": 1e-4})
    curves.add(40, {"train/loss": 0.25, "train/lr": 1e-5})
    first = curves.take()
    assert curves.take() is None
    curves.add(60, {"train/loss": 0.125})
    second = curves.take()
    assert first[0] == "tensorboard/events.out.tfevents.1700000001.000000"
    assert second[0] > first[0]  # the order in which they are read
    write(tmp_path, first)
    write(tmp_path, second)
    assert read(tmp_path) == {
        "train/loss": [(20, 0.5), (40, 0.25), (60, 0.125)],
        "train/lr": [(20, 1e-4), (40, 1e-5)],
    }


def test_steps_that_are_trained_again_show_once(tmp_path):
    """A start goes on from a checkpoint before the last published step; the curve must not run back and forth."""
    before = Curves(first_step=1, started_s=1_700_000_000)
    for step in (20, 40, 60):
        before.add(step, {"train/loss": step})
    write(tmp_path, before.take())
    after = Curves(first_step=41, started_s=1_700_000_500)
    after.add(50, {"train/loss": -50})
    write(tmp_path, after.take())
    after.add(70, {"train/loss": -70})
    write(tmp_path, after.take())
    assert read(tmp_path) == {"train/loss": [(20, 20), (40, 40), (50, -50), (70, -70)]}


def test_non_finite_scalars_are_left_out(tmp_path):
    """A finding without positives has no AUROC; it is not 0, and a gap is honest."""
    curves = Curves(first_step=1, started_s=1_700_000_000)
    curves.add(1, {"a": None, "b": float("nan"), "c": float("inf")})
    assert curves.take() is None
    curves.add(1, {"a": None, "d": 1.0})
    write(tmp_path, curves.take())
    assert read(tmp_path) == {"d": [(1, 1.0)]}


def test_history_entry_becomes_tensorboard_tags():
    """Mean and each finding, and accuracy where there is one."""
    entry = {"step": 9, "epoch": 1.0, "train_loss": 0.7, "images_per_s": None, "data_wait_share": 0.1, "val": None}
    assert of_epoch(entry) == {
        "train/epoch_loss": 0.7,
        "train/images_per_s": None,
        "train/data_wait_share": 0.1,
        "train/peak_memory_bytes": None,
    }
    entry["val"] = {"images": 4, "mean_auroc": 0.8, "loss": 0.6, "auroc": {"NORMAL": 0.75, "PNEUMONIA": None}}
    entry["val"]["accuracy"] = {"correct": 3, "total": 4, "value": 0.75, "low": 0.3, "high": 0.95}
    values = of_epoch(entry)
    assert values["val/auroc"] == 0.8
    assert values["val/loss"] == 0.6
    assert values["val/accuracy"] == 0.75
    assert values["auroc/NORMAL"] == 0.75
    assert values["auroc/PNEUMONIA"] is None


def test_import_loads_neither_tensorboard_nor_torch():
    """Every worker imports this module; the third of a second is the primary's alone, and only when it publishes."""
    code = (
        "import sys, trainer.runs.tensorboard; sys.exit(any(name in sys.modules for name in ('tensorboard', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
