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
    """What keeps CUDA from working; needs no GPU context."""
    if torch.version.cuda is None:
        return "this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "no GPU or no driver is visible"
    return None


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - the protocol's word and parameters
    """Take GPU number `local_rank`.

    Raises: InputError with fewer GPUs than workers.
    """
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise InputError(
            f"cannot give worker {local_rank} of this node a GPU: {count} are visible", hint=f"--nproc-per-node {count}"
        )
    torch.cuda.set_device(local_rank)
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda", local_rank)


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 needs no loss scaling."""
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")


def flush() -> None:
    """Kernels start by themselves."""


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Pinned, so that the copy runs beside the kernels."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """An asynchronous copy and the event that ends it."""
    there = host.to("cuda", non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return there, copied.synchronize


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
    """This GPU's."""
    return torch.cuda.get_rng_state()


def set_random_state(state: Tensor) -> None:
    """This GPU's."""
    torch.cuda.set_rng_state(state)


def peak_memory_bytes() -> int:
    """Most memory that tensors took."""
    return int(torch.cuda.max_memory_allocated())


def utilisation() -> float | None:
    """Share of the last sixth of a second to second in which a kernel ran; None without NVIDIA's library, or where the driver refuses.

    Source: nvidia-smi's documentation of utilization.gpu, which torch asks for through nvidia-ml-py.
    """
    try:
        return torch.cuda.utilization() / 100
    except Exception:  # noqa: BLE001 - a figure beside the run: the library is absent, or raises errors of its own (in MIG mode, say)
        return None


def hardware() -> str:
    """The GPU's name."""
    return torch.cuda.get_device_name()
