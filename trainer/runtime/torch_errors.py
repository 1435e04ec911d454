"""Known errors for torch's exceptions when memory runs out or a peer is lost."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed import DistBackendError, DistError

from trainer.errors import InputError, KnownError, PeerLostError
from trainer.redaction import redacted

_NO_MEMORY = ("DefaultCPUAllocator", "not enough memory")
_PEER_LOST = ("gloo", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "Socket Timeout")
"""Parts of RuntimeError messages; torch has no classes for these errors."""


@contextmanager
def translated_torch_errors() -> Iterator[None]:
    """Turn torch's exceptions in the block into known errors where possible.

    Raises: InputError when memory runs out, PeerLostError for a lost peer.
    """
    try:
        yield
    except RuntimeError as problem:
        known = _known(problem)
        if known is None:
            raise
        raise known from problem


def _known(problem: RuntimeError) -> KnownError | None:
    text = " ".join(str(problem).split())
    if isinstance(problem, torch.OutOfMemoryError) or any(words in text for words in _NO_MEMORY):
        return InputError(
            f"cannot train: out of memory ({redacted(text)[:200]})", hint="use a smaller --batch-size or --crop-px"
        )
    if isinstance(problem, (DistBackendError, DistError)) or any(words in text for words in _PEER_LOST):
        return PeerLostError(
            f"cannot continue: a peer was lost ({redacted(text)[:200]})",
            hint="the same command continues from the newest checkpoint",
        )
    return None
