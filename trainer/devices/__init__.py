"""Where tensors live: one module per device, all alike, so that nobody else asks which one it is.

`cpu.py`, `cuda.py` and `hpu.py` are the only files that name a vendor's API.
"""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Final, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from trainer.errors import InputError

Arithmetic = Literal["fp32", "bf16"]


class Device(Protocol):
    """What a device module offers."""

    name: str
    backend: str
    """torch.distributed's back end for gradients."""
    native_precision: Arithmetic
    """What `--precision auto` means."""
    memory_format: torch.memory_format
    """Layout in which convolutions are fastest."""

    def missing(self) -> str | None:
        """Why it can't be used here, None when it can. Takes no device."""
        ...

    def open(self, local_rank: int, local_size: int) -> torch.device:
        """Take this worker's device; before that nothing may touch one."""
        ...

    def autocast(self, precision: Arithmetic) -> AbstractContextManager[Any]:
        """The block in which the forward pass runs."""
        ...

    def flush(self) -> None:
        """Run what is queued, where the device queues until told."""
        ...

    def host_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """An empty uint8 tensor on the host from which `upload` is fast."""
        ...

    def upload(self, host: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """The tensor on the device, and a function that waits until `host` may be written again."""
        ...

    def ddp_options(self) -> dict[str, Any]:
        """Keyword arguments of DistributedDataParallel."""
        ...

    def optimizer_options(self) -> dict[str, Any]:
        """Keyword arguments of torch's optimisers, the same keys on every device."""
        ...

    def random_state(self) -> Tensor | None:
        """State of the device's own random generator; None where the processor's is the only one."""
        ...

    def set_random_state(self, state: Tensor) -> None:
        """Go on with such a state."""
        ...

    def peak_memory_bytes(self) -> int:
        """Most memory that tensors took so far; 0 where the device does not say."""
        ...

    def utilisation(self) -> float | None:
        """Share of the last moment in which it was busy, 0 to 1, whoever kept it so; None where the device does not say."""
        ...

    def hardware(self) -> str:
        """What it is, in words, once it is open."""
        ...


def rank_local_buffers() -> dict[str, bool]:
    """DistributedDataParallel's option for buffers that each rank keeps to itself: they are averaged by us when it matters.

    Its name changed between torch 2.6 and 2.14, which warns of the old one.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


_BY_PREFERENCE: Final = ("hpu", "cuda", "cpu")


def find(name: str) -> Device:
    """The device module of that name; `auto` is the first accelerator that is there, else the processor.

    Raises: InputError when a device that was named is not there: nothing falls back unasked.
    """
    if name == "auto":
        return next(device for device in map(_load, _BY_PREFERENCE) if device.missing() is None)
    device = _load(name)
    reason = device.missing()
    if reason is not None:
        raise InputError(f"cannot use {name}: {reason} (from `--device`)", hint="--device auto takes what is there")
    return device


def _load(name: str) -> Device:
    return cast("Device", import_module(f"trainer.devices.{name}"))
