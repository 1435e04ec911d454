"""The CPU, for laptops and tests."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.config import Compile, Mode
from trainer.devices import Arithmetic, cannot_compile_error, check_no_gaudi_mode, inductor, rank_local_buffers

name = "cpu"
backend = "gloo"
memory_format = torch.contiguous_format
mode_fact = "mode"
uploads_ahead = False


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


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """The CPU. OMP_NUM_THREADS limits its threads; `trainer.runtime.entrypoint` sets it to this worker's share."""
    return torch.device("cpu")


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16 on request; slow on most CPUs."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")


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
