"""Files of evaluations in a directory that the user names."""

import pytest

from trainer.report.evaluation_files import folders_of


@pytest.mark.parametrize(
    ("models", "folders"),
    [
        (["runs/a"], []),
        (["runs/a", "s3://bucket/runs/b/"], ["a", "b"]),
        (["one/a", "two/a", "two/a-2"], ["a", "a-2", "a-2-2"]),
        (["..", "../b", ".", "/"], ["model", "b", "model-2", "model-3"]),
    ],
)
def test_each_model_has_its_own_directory_below(models, folders):
    """`..` is a run when one is in its report's directory: its files would be written beside the chosen directory."""
    assert folders_of(models) == folders
