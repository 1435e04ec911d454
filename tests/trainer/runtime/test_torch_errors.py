"""What torch raises when memory or a peer is gone."""

import pytest
import torch

from trainer.errors import InputError, TryAgainError
from trainer.runtime.torch_errors import translated_torch_errors


@pytest.mark.parametrize(
    ("problem", "known"),
    [
        pytest.param(
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"), InputError, id="device memory"
        ),
        pytest.param(
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), InputError, id="host memory"
        ),
        pytest.param(
            RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"), TryAgainError, id="gloo"
        ),
        pytest.param(
            torch.distributed.DistBackendError("NCCL error: unhandled system error"), TryAgainError, id="nccl"
        ),
    ],
)
def test_known_torch_failures_become_known_errors(problem, known):
    """`bug` would send the user looking in the wrong place, and a lost peer is worth another try."""
    with pytest.raises(known) as failure, translated_torch_errors():
        raise problem
    assert failure.value.hint


def test_compiler_that_fails_is_named_without_torchs_advice():
    """It may be installed and not work, which `--compile auto` does not see."""

    def fails(*_):
        raise OSError("gcc: cannot execute")

    with (
        pytest.raises(InputError, match=r"cannot compile the network: .*gcc: cannot execute\n") as failure,
        translated_torch_errors(),
    ):
        torch.compile(torch.nn.ReLU(), backend=fails)(torch.zeros(1))
    assert "--compile off" in failure.value.hint


def test_other_torch_failures_are_raised_unchanged():
    """A shape error is a bug."""
    with pytest.raises(RuntimeError, match="mat1 and mat2"), translated_torch_errors():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
