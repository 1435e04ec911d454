"""run.json: what it records, and whether a later start may resume the run."""

import json
import subprocess
from pathlib import Path

import pytest

import trainer
from trainer.config import from_argv
from trainer.errors import InputError
from trainer.label_choices import NAMES
from trainer.runs.record import check_same, decisive_settings, git_commit, positive_class
from trainer.storage import LocalStorage


def start_over(folder, before, now):
    (folder / "run.json").write_text(json.dumps({"config": {}, "identity": before}))
    check_same(LocalStorage(str(folder)), now)


def test_run_whose_settings_were_written_unredacted_is_resumed(tmp_path):
    """Earlier versions wrote settings as they were given, and a path may look like a secret."""
    weights = "/data/api_key=abc123def/w.pt"
    start_over(
        tmp_path,
        {"weights": weights, "findings": ["token=abc123def"]},
        {"weights": weights, "findings": ["token=abc123def"]},
    )
    start_over(tmp_path, {"weights": "/data/api_key=***"}, {"weights": weights})


def test_other_settings_are_refused(tmp_path):
    """It would be another run under the same name."""
    with pytest.raises(InputError, match=r"weights: /data/a in the run, /data/b now"):
        start_over(tmp_path, {"weights": "/data/a"}, {"weights": "/data/b"})


CLASSES = {"loss": "cross_entropy", "findings": ["Abnormal", "Normal"]}


@pytest.mark.parametrize(
    ("recorded", "kept", "other"),
    [({}, "Normal", "Abnormal"), ({"positive_class": "Abnormal"}, "Abnormal", "Normal")],
    ids=["before it was recorded", "recorded"],
)
def test_run_keeps_its_positive_class(tmp_path, recorded, kept, other):
    """Runs that were begun before it could be chosen took the last by name."""
    identity = CLASSES | recorded
    start_over(tmp_path, identity, CLASSES)
    start_over(tmp_path, identity, CLASSES | {"positive_class": kept})
    with pytest.raises(InputError, match=f"positive_class: {kept} in the run, {other} now"):
        start_over(tmp_path, identity, CLASSES | {"positive_class": other})
    assert positive_class({"identity": identity}, "r") == kept


def test_independent_findings_have_no_positive_class():
    assert positive_class({}, "r") is None
    for identity in ({"findings": ["a", "b"]}, {"findings": ["a", "b"], "loss": "bce"}):
        assert positive_class({"identity": identity}, "r") is None


def test_recorded_positive_class_that_is_no_class_is_refused():
    """run.json may have been edited."""
    with pytest.raises(InputError, match="names `normal` as the positive class, which is none of its classes"):
        positive_class({"identity": CLASSES | {"positive_class": "normal"}}, "r")


def test_settings_without_the_flag_leave_the_positive_class_to_the_run():
    flags = ["--data", "d", "--output", "o", "--name", "r", "--preset", "pneumonia"]
    assert "positive_class" not in decisive_settings(from_argv(flags), precision=None, global_batch=64)
    given = decisive_settings(from_argv([*flags, "--positive-class", "Normal"]), precision=None, global_batch=64)
    assert given["positive_class"] == "Normal"


REQUIRED = ["--data", "d", "--output", "o", "--name", "r"]


def described(*flags):
    return decisive_settings(from_argv([*REQUIRED, *flags]), precision=None, global_batch=64)


def test_only_choices_of_labels_that_are_made_are_recorded(tmp_path):
    """A run of an earlier version, which has none, is resumed as before."""
    plain = described()
    assert not plain.keys() & NAMES
    chosen = described("--uncertain", "Edema=1", "--uncertain", "0", "--rename", "A=B", "--findings", "A,Edema")
    assert {key: chosen[key] for key in chosen.keys() & NAMES} == {
        "uncertain": ["zeros", "Edema=ones"],
        "rename": ["A=B"],
    }
    start_over(tmp_path, plain, plain)
    start_over(tmp_path, chosen, described("--uncertain", "zeros", "--uncertain", "Edema=ones", "--rename", "A=B"))


@pytest.mark.parametrize(
    ("recorded", "now", "difference"),
    [
        ([], ["--uncertain", "ones"], "uncertain: None in the run, ones now"),
        (["--uncertain", "ones", "--uncertain", "A=0.5"], [], "uncertain: ones, A=0.5 in the run, None now"),
        (["--blank", "zeros"], ["--blank", "ignore"], "blank: zeros in the run, ignore now"),
        (["--projection", "frontal"], [], "projection: frontal in the run, None now"),
    ],
)
def test_other_choices_of_labels_are_refused_with_the_difference(tmp_path, recorded, now, difference):
    """The numbers of a run are those of one reading of its labels."""
    with pytest.raises(InputError) as refused:
        start_over(tmp_path, described(*recorded), described(*now))
    assert difference in str(refused.value)


def test_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    """run.json names the code of a run; an installed package has no commit."""
    root = Path(trainer.__file__).parents[1]
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert git_commit() == head.stdout.strip()
    monkeypatch.setattr(trainer, "__file__", str(tmp_path / "trainer/__init__.py"))
    assert git_commit() is None
