"""NVIDIA GPUs. Source: reference behaviour of torch 2.6-2.15."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from trainer.devices import Arithmetic, rank_local_buffers
from trainer.errors import InputError

name = "cuda"
backend = "nccl"
native_precision: Arithmetic = "bf16"
memory_format = torch.channels_last


def missing() -> str | None:
    """Why CUDA cannot be used; creates no GPU context."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "no GPU or no driver is visible"
    return None


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """Acquire GPU number `local_rank`.

    Raises: InputError when the node has fewer GPUs than workers.
    """
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise InputError(
            f"cannot open a GPU for worker {local_rank} of this node: only {count} are visible",
            hint=f"--nproc-per-node {count}",
        )
    torch.cuda.set_device(local_rank)
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda", local_rank)


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 needs no loss scaling."""
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")


def flush() -> None:
    """Kernels start without it."""


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Pinned memory, so that copies overlap with kernels."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """An asynchronous copy, and a wait for its end."""
    uploaded = host.to("cuda", non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return uploaded, copied.synchronize


def ddp_options() -> dict[str, Any]:
    """One device per process."""
    return {
        "device_ids": [torch.cuda.current_device()],
        **rank_local_buffers(),
        "gradient_as_bucket_view": True,
    }


def optimizer_options() -> dict[str, Any]:
    """One kernel for all parameters."""
    return {"fused": True}


def random_state() -> Tensor | None:
    """State of this GPU's generator."""
    return torch.cuda.get_rng_state()


def set_random_state(state: Tensor) -> None:
    """Restore the state of this GPU's generator."""
    torch.cuda.set_rng_state(state)


def peak_memory_bytes() -> int:
    """Peak memory of tensors."""
    return int(torch.cuda.max_memory_allocated())


def utilisation() -> float | None:
    """Share of the last sampling period (1/6 to 1 s) in which a kernel ran; None without NVIDIA's library, or where the
    driver refuses.

    Source: nvidia-smi's documentation of utilization.gpu, which torch reads through nvidia-ml-py.
    """
    try:
        return torch.cuda.utilization() / 100
    except Exception:  # noqa: BLE001 - informative only: the library is absent, or raises its own errors (such as in MIG mode)
        return None


def hardware() -> str:
    return torch.cuda.get_device_name()
