"""Devices: one module per device with the same interface, so that no other code depends on the kind of device.

Only `cpu.py`, `cuda.py` and `hpu.py` name a vendor's API.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any, Final, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.config import Compile, Mode, Precision, TrainConfig
from trainer.errors import InputError

Arithmetic = Literal["fp32", "bf16"]

FALLBACK: Final = "cpu_fallback/"
"""Prefix of the counters of operations that ran on the host instead of the device."""


class Device(Protocol):
    """Interface of a device module."""

    name: str
    backend: str
    """Backend of torch.distributed for gradients."""
    memory_format: torch.memory_format
    """Memory format with the fastest convolutions."""
    is_accelerator: bool
    """Whether a driver opens a card, which can hang or crash the process, and collectives between cards use shared memory."""
    mode_fact: str
    """Name of the mode in run.json."""
    uploads_ahead: bool
    """Whether the copy of the next batch runs beside the current step."""
    unrecorded_memory_format: torch.memory_format
    """Memory format on this device of runs whose record names none: they began with an earlier version."""

    def unsupported(self) -> str | None:
        """Why the installed software has no support for the device, None when it has. Does not acquire a device.

        Raises: InputError for software that is made for the device and refuses to work: no other device may take its place.
        """
        ...

    def missing(self) -> str | None:
        """Why the device cannot be used here, None when it can. Does not acquire a device. Raises: as `unsupported`."""
        ...

    def check(self, local_rank: int) -> None:
        """Raises: InputError when the installed software cannot run on this worker's device."""
        ...

    def choose_mode(self, gaudi_mode: Mode | None, compile: Compile) -> Mode:  # noqa: A002 - the flag's name
        """The mode of training for these values of `--gaudi-mode` and `--compile`, which do not contradict each other.

        Raises: InputError for a mode that the device does not have, or that this process cannot have.
        """
        ...

    def inference_mode(self) -> Mode:
        """The mode of commands that use a trained network: compiling takes longer than most of them. Raises: as `choose_mode`."""
        ...

    def cannot_compile(self) -> str | None:
        """Why `--compile auto` does not compile although this kind of device gains by it; None where it does, or gains nothing."""
        ...

    def compiled(self, module: nn.Module, mode: Mode) -> nn.Module:
        """The module as it is executed in this mode; it shares parameters and buffers."""
        ...

    def native_precision(self) -> Arithmetic:
        """Precision of `--precision auto`; call after `open`."""
        ...

    def check_precision(self, precision: Arithmetic) -> None:
        """Raises: InputError, with the name of the hardware, for a precision that it has no units for. Does not open the device."""
        ...

    def open(self, local_rank: int, local_size: int) -> torch.device:
        """Acquire this worker's device; nothing may use one before."""
        ...

    def autocast(self, precision: Arithmetic) -> AbstractContextManager[Any]:
        """Context of the forward pass."""
        ...

    def passes_at_once(self, cores: int) -> int:
        """Forward passes to run at the same time, each in a thread of its own, on this many cores; 1 where one fills the device."""
        ...

    def inference_batch(self, crop_px: int) -> int:
        """Images of this side per batch, where nothing is trained and the user chooses none."""
        ...

    def flush(self) -> None:
        """Run queued operations, where the device queues them."""
        ...

    def host_buffer(self, shape: tuple[int, ...]) -> Tensor:
        """An empty uint8 tensor on the host, fast to `upload`."""
        ...

    def upload(self, host: Tensor) -> tuple[Tensor, Callable[[], None]]:
        """The tensor on the device, and a function that waits until `host` may be overwritten."""
        ...

    def start_upload(self, host: Tensor) -> tuple[Callable[[], Tensor], Callable[[], None]]:
        """Start a copy beside queued operations; a function that returns the tensor for operations queued afterwards, to be called
        once, and a function that waits until `host` may be overwritten.
        """
        ...

    def ddp_options(self) -> dict[str, Any]:
        """Keyword arguments of DistributedDataParallel."""
        ...

    def optimizer_options(self) -> dict[str, Any]:
        """Keyword arguments of torch's optimisers, with the same keys on every device."""
        ...

    def random_state(self) -> Tensor | None:
        """State of the device's own random generator; None where the CPU's is the only one."""
        ...

    def set_random_state(self, state: Tensor) -> None:
        """Restore such a state."""
        ...

    def forbid_sync(self) -> AbstractContextManager[Any]:
        """A block in which an operation that makes the host wait for the device raises RuntimeError, where the device can tell; for tests
        and benchmarks.
        """
        ...

    def clip(self, parameters: Sequence[nn.Parameter], most: float) -> Tensor:
        """Scale the gradients so that their common norm is at most this; the norm before, on the device."""
        ...

    def peak_memory_bytes(self) -> int | None:
        """Peak memory of tensors since the last `reset_peak_memory`; None where the device does not report it."""
        ...

    def reset_peak_memory(self) -> None:
        """Forget the peak so far."""
        ...

    def profiled(self) -> Sequence[torch.profiler.ProfilerActivity]:
        """Activities for torch.profiler: the host's and the device's."""
        ...

    def counters(self) -> Mapping[str, int]:
        """The vendor's counters of this process by name, such as of operations that ran on the host instead; empty without any."""
        ...

    def utilisation(self) -> float | None:
        """Recent utilisation of the device by all processes, 0 to 1; None where it is not reported."""
        ...

    def hardware(self) -> str:
        """Name of the hardware; call after `open`."""
        ...

    def software(self) -> str:
        """Versions of torch, of the vendor's software and of the driver as far as they are reported. Does not acquire a device."""
        ...

    def host_shortage(self) -> str | None:
        """What the host lacks of what the device needs beside memory; None without a shortage. Does not acquire a device."""
        ...


def rank_local_buffers() -> dict[str, bool]:
    """DistributedDataParallel's option for buffers that are not synchronised at each step: we average them when needed.

    Its name changed between torch 2.6 and 2.14, which warns about the old one.
    """
    known = inspect.signature(DistributedDataParallel).parameters
    return {"forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers": False}


_BY_PREFERENCE: Final = ("hpu", "cuda", "cpu")


def find(name: str, precision: Precision = "auto") -> Device:
    """The device module of that name; `auto` is the first usable accelerator, otherwise the CPU.

    Raises: InputError when the named device is not usable, or lacks units for the precision: there is no silent fallback.
    """
    device = _named(name)
    if precision != "auto":
        device.check_precision(precision)
    return device


def _named(name: str) -> Device:
    """The device module of that name. Raises: InputError when it is not usable."""
    if name == "auto":
        return next(device for device in map(load, _BY_PREFERENCE) if device.missing() is None)
    device = load(name)
    reason = device.missing()
    if reason is not None:
        raise InputError(
            f"cannot use {name}: {reason} (from `--device`)", hint="use --device auto to choose a usable device"
        )
    return device


def arithmetic(device: Device, requested: Precision) -> Arithmetic:
    """The precision to compute in: the requested one, with `auto` the device's own; call after `open`.

    Raises: InputError for one that the hardware has no units for: emulated, it would be slower than fp32.
    """
    if requested == "auto":
        return device.native_precision()
    device.check_precision(requested)
    return requested


def training_mode(device: Device, config: TrainConfig) -> Mode:
    """The mode that a run with these flags trains in.

    Raises: InputError, as `choose_mode`; and for low activation memory, which is not compiled, where the device's default is to compile:
    eager there is only for those who ask for it (docs/decisions/0032).
    """
    is_default = config.compile == "auto" and config.gaudi_mode is None
    if config.recomputes and is_default and device.inference_mode() == "compile":
        raise InputError(
            f"cannot use --activation-memory low on {device.name} in the mode `compile`, the default here: what is computed again is not compiled",
            hint="remove --activation-memory, or choose another --gaudi-mode",
        )
    return device.choose_mode(config.gaudi_mode, config.compile_choice)


def check_no_gaudi_mode(requested: Mode | None, name: str) -> None:
    """Raises: InputError for a mode of Gaudi on another device."""
    if requested is not None:
        raise InputError(
            f"cannot use the mode `{requested}` on {name}: only Gaudi has modes (from `--gaudi-mode`)",
            hint="remove --gaudi-mode",
        )


def cannot_compile_error(name: str, reason: str) -> InputError:
    """The error of `--compile on` where it does not work."""
    return InputError(
        f"cannot compile the network on {name}: {reason} (from `--compile on`)",
        hint="install it, or use --compile auto, which then trains without",
    )


def in_mode(device: Device, mode: Mode) -> str:
    """Device and mode in words. Eager, the plain execution, is named only among the modes of Gaudi."""
    is_plain = mode == "eager" and device.mode_fact == "mode"
    return device.name if is_plain else f"{device.name} in the mode {mode}"


def load(name: str) -> Device:
    """The device module of that name, usable or not."""
    return cast("Device", import_module(f"trainer.devices.{name}"))
