"""Frozen backbones in whole runs: what is trained, and when."""

import json

import pytest
import torch

from trainer.errors import InputError
from trainer.runs import checkpoints
from trainer.runs.manifest import committed
from trainer.runtime.watchdog import Watchdog
from trainer.storage import LocalStorage
from trainer.training import state
from trainer.training.snapshot import from_bytes


def states(folder):
    """All checkpoints' states by step."""
    storage = LocalStorage(str(folder))
    return {one.step: from_bytes(checkpoints.read_state(storage, one)) for one in committed(storage)}


def changed(before, after):
    """Names of the tensors that differ."""
    return {name for name, tensor in before.model.items() if not torch.equal(tensor, after.model[name])}


def test_frozen_run_trains_the_head_alone_and_its_optimiser_holds_nothing_more(classify, tmp_path):
    """VGG16's backbone would cost a gigabyte of Adam's averages, and BatchNorm's statistics would drift."""
    results = classify("r", "--keep-last", "9", "--checkpoint-every-steps", "1")
    kept = states(tmp_path / "r")
    first, last = kept[1], kept[max(kept)]
    head = {name for name in first.model if name.startswith("classifier.")}
    assert changed(first, last) == head
    assert len(last.optimizer["state"]) == len(head)
    assert results.scores["test"].accuracy["total"] == 12
    assert json.loads((tmp_path / "r/results.json").read_text())["val"]["accuracy"]["total"] == 12


def test_run_that_unfreezes_its_backbone_resumes_with_the_same_weights(classify, tmp_path):
    """Stopped before its backbone is freed, there, and after: Adam's averages of the head go on, those of the backbone begin; bit for bit."""
    flags = ("--unfreeze-after", "2", "--epochs", "4", "--keep-last", "9")
    classify("whole", *flags)
    for stop in (4, 6, 9):
        classify("parts", *flags, "--max-steps", str(stop))
    classify("parts", *flags)
    whole, parts = states(tmp_path / "whole"), states(tmp_path / "parts")
    steps_per_epoch = min(whole)
    assert {4, 6, 9} <= parts.keys()
    assert steps_per_epoch * 2 in whole, "the boundary"
    assert all(name.startswith("classifier.") for name in changed(whole[steps_per_epoch], whole[2 * steps_per_epoch]))
    freed = changed(whole[2 * steps_per_epoch], whole[3 * steps_per_epoch])
    assert "features.conv0.weight" in freed
    assert "features.norm0.running_mean" in freed
    assert not changed(whole[max(whole)], parts[max(parts)])
    assert max(whole) == max(parts) == 4 * steps_per_epoch


def test_watchdog_covers_the_set_up_of_ddp(classify, monkeypatch):
    """A card whose peer never comes waits for ever; computing features ends with a rest of the watchdog."""
    noted, at_start = [], []
    for name in ("heartbeat", "pause"):
        original = getattr(Watchdog, name)
        monkeypatch.setattr(
            Watchdog,
            name,
            lambda self, *args, name=name, original=original, **how: (noted.append(name), original(self, *args, **how)),
        )
    monkeypatch.setattr(state, "in_parallel", lambda _workers, _device, part: (at_start.append(noted[-1]), part)[1])
    classify("r", "--crop", "center", "--no-flip", "--rotate", "0", "--max-steps", "1")
    assert at_start == ["heartbeat"]


def test_data_set_whose_images_have_several_labels_is_refused_before_anything_is_decoded(
    finished_run, tmp_path, classify
):
    """One class of several is a wrong question there, and the answer would look like a result."""
    flags = ("--data", str(finished_run.data), "--cache-dir", str(tmp_path / "cache"))
    with pytest.raises(
        InputError, match=r"cannot train `--loss cross_entropy`: .* have several labels or none"
    ) as refusal:
        classify("r", *flags)
    assert "--loss bce" in refusal.value.hint
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "r").exists()


def test_class_folders_can_be_trained_with_bce(classify):
    """A folder's name is a label like any other."""
    results = classify("r", "--loss", "bce", "--max-steps", "1")
    assert results.scores["test"].accuracy is None
