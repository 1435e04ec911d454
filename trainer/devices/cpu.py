"""The CPU, for laptops and tests."""

import ctypes
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.config import Compile, Mode
from trainer.devices import Arithmetic, cannot_compile_error, check_no_gaudi_mode, inductor, rank_local_buffers
from trainer.errors import InputError, on_one_line
from trainer.runtime.cores import threads_per_worker

name = "cpu"
backend = "gloo"
is_accelerator = False
memory_format = torch.channels_last
unrecorded_memory_format = torch.contiguous_format
mode_fact = "mode"
uploads_ahead = False

THREADS: Final = "OMP_NUM_THREADS"

TRIM_THRESHOLD: Final = (-1, 2**31 - 1)
MMAP_THRESHOLDS: Final = ((-3, 2**30), (-3, 2**25))
"""Settings of the C library's allocator and their values in bytes; the second threshold is the largest that glibc before 2.35 accepts.

Source: malloc.h and malloc.c of glibc (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, HEAP_MAX_SIZE / 2).
"""

CPUINFO: Final = Path("/proc/cpuinfo")

BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""Flags of processors that multiply in bf16. Source: arch/x86/include/asm/cpufeatures.h and, for `bf16`, arch/arm64/kernel/cpuinfo.c of Linux."""

_BATCH_PIXELS: Final = 8 * 224 * 224


def unsupported() -> str | None:
    """None: every torch supports the CPU."""
    return None


def missing() -> str | None:
    """None: the CPU is always usable."""
    return None


def check(local_rank: int) -> None:
    """Every torch runs on the CPU."""


def choose_mode(gaudi_mode: Mode | None, compile: Compile) -> Mode:  # noqa: A002 - the flag's name
    """eager, and compile on request: it gains little on processors. Raises: InputError for a mode of Gaudi, and without a C++ compiler."""
    check_no_gaudi_mode(gaudi_mode, name)
    if compile != "on":
        return "eager"
    reason = inductor.lacks_cpp()
    if reason is not None:
        raise cannot_compile_error(name, reason)
    return "compile"


def inference_mode() -> Mode:
    """Eager."""
    return "eager"


def cannot_compile() -> str | None:
    """None: it is not the default here."""
    return None


def compiled(module: nn.Module, mode: Mode) -> nn.Module:
    """With inductor in the mode `compile`, otherwise itself."""
    return inductor.compiled(module) if mode == "compile" else module


def native_precision() -> Arithmetic:
    """fp32."""
    return "fp32"


def check_precision(precision: Arithmetic) -> None:
    """Raises: InputError for bf16 on a processor without units for it. torch would emulate it, slower than fp32."""
    if precision == "fp32":
        return
    model, flags = _processor()
    if not flags & BF16_FLAGS:
        raise InputError(
            f"cannot compute in bf16 on this processor: {model} has none of the flags {', '.join(sorted(BF16_FLAGS))} "
            "(from `--precision`)",
            hint="--precision fp32",
        )


def _processor() -> tuple[str, frozenset[str]]:
    """Name of the processor and its flags; the name says why there are none where they cannot be read."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError as problem:
        return f"a processor whose {CPUINFO} cannot be read ({problem.strerror})", frozenset()
    values = {
        key.strip().lower(): value.strip()
        for key, _, value in (line.partition(":") for line in reversed(text.splitlines()))
    }
    flags = values.get("flags", values.get("features", "")).split()
    return on_one_line(values.get("model name") or "a processor without a name"), frozenset(flags)


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """The CPU; sets this process's threads, unless OMP_NUM_THREADS does: at most this worker's share of the processors.

    `trainer.runtime.entrypoint` sets that variable for its workers. Without either, torch takes all cores of the node, also where a
    container's limit allows fewer. Operations run one after the other here, so threads between operations would have no work.
    """
    if THREADS not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), threads_per_worker(local_size)))
    _keep_freed_memory()
    if torch.get_num_interop_threads() > 1:
        with suppress(RuntimeError):  # too late: another library has used them
            torch.set_num_interop_threads(1)
    return torch.device("cpu")


def _keep_freed_memory() -> None:
    """Keep memory that tensors have freed for the next ones: otherwise it goes back to the system, and every step has each of its pages
    cleared again, a fifth of a step at 224 pixels (docs/decisions/0037). Other C libraries than glibc have no such setting, or ignore it.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):  # the user has set the allocator up
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Without a threshold of its own, glibc raises it with use, which the other setting ends at the 128 KiB of the start.
    if mallopt is not None and any(mallopt(*each) for each in MMAP_THRESHOLDS):
        mallopt(*TRIM_THRESHOLD)


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 on request; `check_precision` refuses it where it is slow."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


def passes_at_once(cores: int) -> int:
    """One per core: a pass on several waits after each operation for the slowest of them."""
    return cores


def inference_batch(crop_px: int) -> int:
    """As many as 8 images of 224 pixels, at most 32: with more, the activations leave the caches."""
    return max(1, min(32, _BATCH_PIXELS // crop_px**2))


def flush() -> None:
    """Nothing is queued."""


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Pageable memory."""
    return torch.empty(shape, dtype=torch.uint8)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy: the buffer is overwritten while the batch is in use."""
    return host.clone(), lambda: None


def start_upload(host: Tensor) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """As `upload`: the processor that copies is the one that computes."""
    uploaded, copied = upload(host)
    return lambda: uploaded, copied


def ddp_options() -> dict[str, Any]:
    """Gradients are views of the reduction buckets."""
    return {**rank_local_buffers(), "gradient_as_bucket_view": True}


def optimizer_options() -> dict[str, Any]:
    """The default implementation."""
    return {"fused": False}


def random_state() -> Tensor | None:
    """None: the CPU generator's state is saved for every device."""
    return None


def set_random_state(state: Tensor) -> None:
    """Nothing to restore: another device's state has no meaning here."""


def forbid_sync() -> AbstractContextManager[Any]:
    """Nothing: the host is the device."""
    return nullcontext()


def clip(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """Torch's own."""
    return clip_grad_norm_(parameters, most)


def peak_memory_bytes() -> int | None:
    """None: the memory of the process is more than that of its tensors."""
    return None


def reset_peak_memory() -> None:
    """Nothing to forget."""


def profiled() -> Sequence[torch.profiler.ProfilerActivity]:
    """The processor's."""
    return [torch.profiler.ProfilerActivity.CPU]


def counters() -> Mapping[str, int]:
    """None."""
    return {}


def utilisation() -> float | None:
    """None: other processes use the CPU, too, and threads waiting for each other look busy."""
    return None


def hardware() -> str:
    """Number of CPU threads of this process."""
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''}"


def software() -> str:
    """Version of torch."""
    return f"torch {torch.__version__}"


def host_shortage() -> None:
    """None: nothing is needed."""
