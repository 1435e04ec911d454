"""Names in a run's prefix."""

import pytest

from trainer.errors import InputError
from trainer.layout import check_name, committed_step, manifest_key, state_key


def test_manifest_key_commits_its_step():
    """Build and parse agree, also beyond eight digits."""
    for step in (0, 500, 123456789):
        assert committed_step(manifest_key(step)) == step


@pytest.mark.parametrize(
    "key", [state_key(5), "checkpoints/step-5/manifest.json", "run.json", "x/checkpoints/step-00000005/manifest.json"]
)
def test_other_keys_commit_nothing(key):
    """A state without a manifest is no checkpoint."""
    assert committed_step(key) is None


@pytest.mark.parametrize("name", ["a", "chexnet-7f3a", "a" * 53])
def test_name_of_a_kubernetes_object_is_taken(name):
    """Names of runs are names of jobs."""
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "a_b", "a.b", "a/b", "../a", "a" * 54, "a\n"])
def test_other_names_are_refused(name):
    """A run's name is part of paths and of object names."""
    with pytest.raises(InputError):
        check_name(name)
