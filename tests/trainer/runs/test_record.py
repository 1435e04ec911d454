"""run.json: what it records, and whether a later start may resume the run."""

import json
import subprocess
from pathlib import Path

import pytest

import trainer
from trainer.errors import InputError
from trainer.runs.record import check_same, git_commit
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


def test_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    """run.json names the code of a run; an installed package has no commit."""
    root = Path(trainer.__file__).parents[1]
    if (root / ".git").exists():
        head = subprocess.run(["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        assert git_commit() == head.stdout.strip()
    monkeypatch.setattr(trainer, "__file__", str(tmp_path / "trainer/__init__.py"))
    assert git_commit() is None
