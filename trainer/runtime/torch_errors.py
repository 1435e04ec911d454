"""Known errors for torch's exceptions when memory runs out, a peer is lost, or a network is not compiled."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.distributed import DistBackendError, DistError

from trainer.errors import InputError, KnownError, PeerLostError
from trainer.redaction import redacted

_NO_MEMORY = ("DefaultCPUAllocator", "not enough memory", "out of memory", "STATUS_ALLOC_FAILED", "PT_DEVMEM")
"""Parts of RuntimeError messages: of the host, of drivers, of CUDA's libraries, and of Gaudi's bridge (HabanaAI: MODULE:PT_DEVMEM)."""

_PEER_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket Timeout")
"""Parts of RuntimeError messages; torch has no classes for these errors."""

_ADVICE = " Set TORCHDYNAMO_VERBOSE"
"""Begin of the advice to torch's developers at the end of the compiler's errors."""


def is_out_of_memory(problem: RuntimeError) -> bool:
    """Whether torch raised this because memory ran out, the host's or a device's."""
    return isinstance(problem, torch.OutOfMemoryError) or any(words in str(problem) for words in _NO_MEMORY)


def _plainly_out_of_memory(words: str) -> KnownError:
    return InputError(f"cannot train: out of memory ({words})", hint="use a smaller --batch-size or --crop-px")


@contextmanager
def translated_torch_errors(
    out_of_memory: Callable[[str], KnownError] = _plainly_out_of_memory,
) -> Iterator[None]:
    """Turn torch's exceptions in the block into known errors where possible; `out_of_memory` makes one of torch's words.

    Raises: the error of `out_of_memory` when memory runs out, PeerLostError for a lost peer, InputError for a compiler that fails.
    """
    try:
        yield
    except RuntimeError as problem:
        known = _known(problem, out_of_memory)
        if known is None:
            raise
        raise known from problem


def _known(problem: RuntimeError, out_of_memory: Callable[[str], KnownError]) -> KnownError | None:
    text = " ".join(str(problem).split())
    if is_out_of_memory(problem):
        return out_of_memory(redacted(text)[:200])
    if isinstance(problem, (DistBackendError, DistError)) or any(words in text for words in _PEER_LOST):
        return PeerLostError(
            f"cannot continue: a peer was lost ({redacted(text)[:200]})",
            hint="the same command continues from the newest checkpoint",
        )
    if _is_of_compiler(problem):
        return InputError(
            f"cannot compile the network: {redacted(text.partition(_ADVICE)[0])[:200]}",
            hint="check the C and C++ compilers, which CC and CXX may name; or train without torch.compile: --compile off, on Gaudi --gaudi-mode lazy",
        )
    return None


def _is_of_compiler(problem: RuntimeError) -> bool:
    """Whether torch.compile raised this; nothing is compiled where its module is not loaded."""
    errors = sys.modules.get("torch._dynamo.exc")
    return errors is not None and isinstance(problem, errors.TorchDynamoException)
