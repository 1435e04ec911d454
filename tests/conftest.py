"""Fixtures that tests of both programs share."""

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture
def shared() -> Path:
    """The folder of real samples beside the repository."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no shared data")
    return SHARED
