"""What all tests of the trainer share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Small networks on a busy machine lose more to threads that wait for each other than they gain."""
    torch.set_num_threads(1)
