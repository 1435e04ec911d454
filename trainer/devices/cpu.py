"""The processor, for laptops and tests."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainer.devices import Arithmetic, rank_local_buffers

name = "cpu"
backend = "gloo"
native_precision: Arithmetic = "fp32"
memory_format = torch.contiguous_format


def missing() -> str | None:
    """None: there is always a processor."""
    return None


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - the protocol's word and parameters
    """The processor; OMP_NUM_THREADS says how much of it, which `trainer.runtime.entrypoint` sets to this worker's share."""
    return torch.device("cpu")


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 where asked for; slow on most processors."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def flush() -> None:
    """Nothing is queued."""


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Plain memory."""
    return torch.empty(shape, dtype=torch.uint8)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy: the buffer is written again while the batch is in use."""
    return host.clone(), lambda: None


def ddp_options() -> dict[str, Any]:
    """Gradients live in the buckets that are reduced."""
    return {**rank_local_buffers(), "gradient_as_bucket_view": True}


def optimizer_options() -> dict[str, Any]:
    """The reference implementation."""
    return {"fused": False}


def random_state() -> Tensor | None:
    """The processor's generator is kept for every device."""
    return None


def set_random_state(state: Tensor) -> None:
    """Nothing of its own: a state from another device means nothing here."""


def peak_memory_bytes() -> int:
    """Not told."""
    return 0


def utilisation() -> float | None:
    """Not told: a processor is others' too, and threads that wait for each other look busy."""
    return None


def hardware() -> str:
    """How much of the processor this process uses."""
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''}"
