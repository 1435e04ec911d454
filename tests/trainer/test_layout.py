"""Names in a run's prefix."""

import pytest

from trainer.errors import InputError
from trainer.layout import check_name, committed_step, is_our_folder, is_ours, manifest_key, state_key


def test_manifest_key_commits_its_step():
    """Build and parse agree, also beyond eight digits."""
    for step in (0, 500, 123456789):
        assert committed_step(manifest_key(step)) == step


@pytest.mark.parametrize(
    "key", [state_key(5), "checkpoints/step-5/manifest.json", "run.json", "x/checkpoints/step-00000005/manifest.json"]
)
def test_other_keys_are_no_manifests(key):
    """A state without a manifest is no checkpoint."""
    assert committed_step(key) is None


@pytest.mark.parametrize("name", ["a", "chexnet-7f3a", "a" * 53])
def test_names_that_kubernetes_accepts_are_accepted(name):
    """Names of runs are names of jobs."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a_b", "a.b", "a/b", "../a", "a" * 54, "a\n"])
def test_names_that_kubernetes_refuses_are_refused(name):
    """A run's name is part of paths and of object names."""
    with pytest.raises(InputError):
        check_name(name)


OURS = [
    "run.json",
    "starts.json",
    "owner.json",
    "split.csv.gz",
    "metrics.jsonl",
    "results.json",
    "checkpoints/step-00000500/state.pt",
    "checkpoints/step-123456789/manifest.json",
    "predictions/val.csv",
    "model/model.safetensors",
    "model/calibration.json",
    "model/card.md",
    "evaluation/metrics.json",
    "evaluation/metrics.csv",
    "report/index.html",
    "report/curves.png",
    "report/gallery.json",
    "profile/trace.json.gz",
    "tensorboard/events.out.tfevents.1790000000.000000",
    "logs/rank-00000.log",
    "logs/rank-123456.log",
]


@pytest.mark.parametrize("key", OURS)
def test_keys_that_a_run_writes_are_recognised(key):
    """And the folders in which they lie."""
    assert is_ours(key)
    folder = key.rpartition("/")[0]
    assert not folder or is_our_folder(folder)


FOREIGN = [
    "checkpoints/epoch=3-step=100.ckpt",
    "checkpoints/step-500/state.pt",
    "checkpoints/step-00000500/state.pt.bak",
    "checkpoints/step-00000500/old/state.pt",
    "checkpoints/step-000000500/state.pt",
    "checkpoints/step-\u0660\u0660\u0660\u0660\u0660\u0665\u0660\u0660/state.pt",
    "checkpoints/step-00000500/manifest.json\n",
    "checkpoints/step-" + "9" * 5000 + "/manifest.json",
    "old/checkpoints/step-00000500/state.pt",
    "checkpoints/best.pt",
    "checkpoints",
    "predictions/train.csv",
    "model/model.pt",
    "report/notes.html",
    "tensorboard/events.out.tfevents.1790000000.host.1.0",
    "logs/rank-0.log",
    "logs/notes.txt",
    "run.json.bak",
    "notes.txt",
    "",
]


@pytest.mark.parametrize("key", FOREIGN)
def test_foreign_keys_are_not_recognised(key):
    """Whatever else lies in a run's prefix belongs to somebody else."""
    assert not is_ours(key)
    assert committed_step(key) is None


def test_finished_run_has_written_only_known_keys(finished_run):
    """A key that the table lacks would be told as foreign, and never be cleaned up."""
    written = [
        path.relative_to(finished_run.root).as_posix() for path in finished_run.root.rglob("*") if path.is_file()
    ]
    assert [key for key in written if not is_ours(key) and key != ".lock"] == []
    assert {key.partition("/")[0] for key in written} >= {"checkpoints", "report", "evaluation", "tensorboard"}
