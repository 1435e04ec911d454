"""NVIDIA GPUs. Source: reference behaviour of torch 2.6-2.15."""

import ctypes
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.config import Compile, Mode
from trainer.devices import Arithmetic, cannot_compile_error, check_no_gaudi_mode, inductor, rank_local_buffers
from trainer.errors import InputError

name = "cuda"
backend = "nccl"
is_accelerator = True
memory_format = unrecorded_memory_format = torch.channels_last
mode_fact = "mode"
uploads_ahead = True

Capability = tuple[int, int]
"""Compute capability of a GPU: major, minor."""

TOO_OLD: Final = {1: "Tesla", 2: "Fermi", 3: "Kepler"}
"""Generations by major capability for which no image of this project has kernels: those for CUDA 12.6 begin with Maxwell."""

FIRST_OF_CUDA_13: Final[Capability] = (7, 5)
"""Turing. Source: CUDA 13's release notes, which drop Maxwell, Pascal and Volta; torch 2.14's kernels for CUDA 13 begin with sm_75."""

LAST_OF_CUDA_12_6: Final[Capability] = (9, 0)
"""Hopper. Source: torch's build for CUDA 12.6 (.ci/manywheel/build_cuda.sh): sm_50 to sm_90, without PTX."""

ONE_BUCKET_MB: Final = 32
"""Source: docs of DistributedDataParallel's bucket_cap_mb; the default is 25 after a first bucket of 1 MiB."""

FIRST_OF_TRITON: Final[Capability] = (7, 0)
"""Volta. Source: torch._inductor's GPUTooOldForTriton."""

_ARCHITECTURE: Final = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)", re.ASCII)


def unsupported() -> str | None:
    """Why this torch cannot use a GPU."""
    return "this torch is built without CUDA" if torch.version.cuda is None else None


def missing() -> str | None:
    """Why CUDA cannot be used; creates no GPU context."""
    reason = unsupported()
    if reason is not None:
        return reason
    if not torch.cuda.is_available():
        return _old_driver() or "no GPU or no driver is visible"
    return None


def _old_driver() -> str | None:
    """Why the driver does not fit this torch; None where it does, or there is none.

    Source: CUDA's compatibility guide: a driver runs all minor releases of its major release of CUDA, and earlier ones.
    """
    supports, needs = _driver_cuda(), str(torch.version.cuda)
    if supports is None or supports[0] >= int(needs.partition(".")[0]):
        return None
    return (
        f"the node's driver supports CUDA up to {supports[0]}.{supports[1]}, and this torch is built for CUDA {needs}"
    )


def _driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver supports: major, minor; None without a driver.

    Source: cuDriverGetVersion of CUDA's driver API, which needs no initialisation; 13020 is 13.2. Torch has no call for it.
    """
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed or not version.value else (version.value // 1000, version.value % 1000 // 10)


def check(local_rank: int) -> None:
    """Raises: InputError for a GPU without kernels in this torch, with the image that has them."""
    capability, kernels = torch.cuda.get_device_capability(local_rank), torch.cuda.get_arch_list()
    is_too_old = capability[0] in TOO_OLD
    if not is_too_old and (not kernels or any(runs_on(capability, each) for each in kernels)):
        return
    card = f"{torch.cuda.get_device_name(local_rank)} (compute capability {capability[0]}.{capability[1]})"
    if is_too_old:
        raise InputError(
            f"cannot train on {card}: {TOO_OLD[capability[0]]} is older than Maxwell, the oldest generation with kernels in any image",
            hint="use a newer GPU (such as P100), or --device cpu",
        )
    raise InputError(
        f"cannot train on {card}: torch {torch.__version__} (CUDA {torch.version.cuda}) has no kernels for it, only {' '.join(kernels)}",
        hint=_image_for(capability),
    )


def runs_on(capability: Capability, kernels: str) -> bool:
    """Whether kernels such as `sm_80` or `compute_90` run on a GPU of this capability.

    Source: CUDA programming guide: binary code runs on the same major capability with an equal or higher minor one, PTX is
    compiled for any equal or higher capability; suffix `a` only for exactly that capability, `f` for its family.
    """
    match = _ARCHITECTURE.fullmatch(kernels)
    if match is None:
        return False
    built_for = int(match[2]), int(match[3])
    if match[4] == "a":
        return capability == built_for
    is_portable = match[1] == "compute" and not match[4]
    return capability >= built_for and (is_portable or capability[0] == built_for[0])


def _image_for(capability: Capability) -> str:
    """Which image has kernels for a GPU that the one here lacks."""
    version = str(torch.version.cuda)
    if capability < FIRST_OF_CUDA_13 and version != "12.6":
        return "an image for Maxwell to Ampere: build Dockerfile.cuda with --build-arg CUDA_VERSION=12.6"
    if capability > LAST_OF_CUDA_12_6 and version.startswith("12."):
        return "an image for newer GPUs: build Dockerfile.cuda with its defaults (CUDA 13)"
    return "an image whose torch has kernels for this GPU: build Dockerfile.cuda with --build-arg BASE_IMAGE=…"


def choose_mode(gaudi_mode: Mode | None, compile: Compile) -> Mode:  # noqa: A002 - the flag's name
    """Compile where it works, otherwise eager. Raises: InputError for a mode of Gaudi, and for `on` where it does not work."""
    check_no_gaudi_mode(gaudi_mode, name)
    if compile == "off":
        return "eager"
    reason = cannot_compile()
    if reason is not None and compile == "on":
        raise cannot_compile_error(name, reason)
    return "compile" if reason is None else "eager"


def inference_mode() -> Mode:
    """Eager."""
    return "eager"


def cannot_compile() -> str | None:
    """What triton lacks here, or that the first GPU is too old for it."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() < FIRST_OF_TRITON:
        return f"triton has no code for GPUs older than Volta, such as {torch.cuda.get_device_name()}"
    return inductor.lacks_triton()


def compiled(module: nn.Module, mode: Mode) -> nn.Module:
    """With inductor in the mode `compile`, otherwise itself."""
    return inductor.compiled(module) if mode == "compile" else module


def native_precision() -> Arithmetic:
    """bf16 where the GPU computes in it, fp32 on generations before Ampere, where torch emulates it."""
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def check_precision(precision: Arithmetic) -> None:
    """Raises: InputError for bf16 on a GPU before Ampere, where torch emulates it."""
    if precision == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InputError(
            f"cannot compute in bf16 on {torch.cuda.get_device_name()}: generations before Ampere have no units for it "
            "(from `--precision`)",
            hint="--precision fp32",
        )


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """Acquire GPU number `local_rank`.

    Raises: InputError when the node has fewer GPUs than workers; as `check`.
    """
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise InputError(
            f"cannot open a GPU for worker {local_rank} of this node: only {count} are visible",
            hint=f"--nproc-per-node {count}",
        )
    check(local_rank)
    torch.cuda.set_device(local_rank)
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda", local_rank)


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 needs no loss scaling."""
    return torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")


def passes_at_once(cores: int) -> int:  # noqa: ARG001 - parameter of the protocol
    """1."""
    return 1


def inference_batch(crop_px: int) -> int:  # noqa: ARG001 - parameter of the protocol
    """Enough to hide the start of the operations; not tuned to a card."""
    return 32


def flush() -> None:
    """Kernels start without it."""


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Pinned memory, so that copies overlap with kernels."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """An asynchronous copy, and a wait for its end."""
    take, copied = start_upload(host)
    return take(), copied


def start_upload(host: Tensor) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """A copy on a stream of its own, which waits for no kernel; kernels queued after the tensor is taken wait for the copy.

    Its memory belongs to that stream, so the allocator is told that kernels use it: otherwise the next copy could overwrite it.
    """
    copies = _copy_stream()
    with torch.cuda.stream(copies):
        uploaded = host.to("cuda", non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(copies)

    def take() -> Tensor:
        computing = torch.cuda.current_stream()
        computing.wait_event(copied)
        uploaded.record_stream(computing)
        return uploaded

    return take, copied.synchronize


@cache
def _copy_stream() -> torch.cuda.Stream:
    """The stream of this process's copies from the host."""
    return torch.cuda.Stream()


def ddp_options() -> dict[str, Any]:
    """One device per process, and one bucket for DenseNet-121's 26.6 MiB of gradients: with a cap of its own, the first bucket is no
    longer one of 1 MiB. Larger networks have several.

    Not `static_graph`: it would save a search for unused parameters that is off, and what unfreezing changes is a new wrapper.
    """
    return {
        "device_ids": [torch.cuda.current_device()],
        **rank_local_buffers(),
        "gradient_as_bucket_view": True,
        "bucket_cap_mb": ONE_BUCKET_MB,
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


@contextmanager
def forbid_sync() -> Iterator[None]:
    """Synchronisations raise, as far as torch knows of them. Source: torch.cuda.set_sync_debug_mode."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def clip(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """Torch's own, which launches a few kernels for all parameters and does not synchronise."""
    return clip_grad_norm_(parameters, most)


def peak_memory_bytes() -> int | None:
    """Peak memory of tensors."""
    return int(torch.cuda.max_memory_allocated())


def reset_peak_memory() -> None:
    """Start again from the memory in use."""
    torch.cuda.reset_peak_memory_stats()


def profiled() -> Sequence[torch.profiler.ProfilerActivity]:
    """The processor's and the GPU's kernels."""
    return [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]


def counters() -> Mapping[str, int]:
    """None."""
    return {}


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


def software() -> str:
    """Versions of torch, its CUDA, and the newest CUDA of the driver."""
    driver = _driver_cuda()
    supports = f"a driver for CUDA {driver[0]}.{driver[1]}" if driver else "an unknown driver"
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, {supports}"


def host_shortage() -> str | None:
    """None: nothing that this module knows of."""
    return None
