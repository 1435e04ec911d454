"""Whether a later start may go on with a run, by its run.json."""

import json

import pytest

from trainer.errors import InputError
from trainer.runs.record import check_same
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
