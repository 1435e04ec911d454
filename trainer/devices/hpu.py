"""Intel Gaudi, written to the vendor's API contract and tested with a stub of the vendor's package, not on a card.

Source: HabanaAI/gaudi-pytorch-bridge, Model-References. Rules: the bridge is imported before the process group is
created and after torchrun has set LOCAL_RANK, by which it chooses the card; no `device_ids`; no channels_last; a step
marker after backward and after the optimiser in lazy mode; ReduceOp.AVG and SyncBatchNorm are not used. The bridge reads
PT_HPU_LAZY_MODE once, when it is loaded, so this module never sets it.
"""

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.config import Compile, Mode
from trainer.devices import FALLBACK, Arithmetic, rank_local_buffers
from trainer.errors import InputError, on_one_line

name = "hpu"
backend = "hccl"
is_accelerator = True
memory_format = unrecorded_memory_format = torch.contiguous_format
mode_fact = "gaudi_mode"
uploads_ahead = False

_FIRST_BUCKET_BYTES = 230 * 1024 * 1024
"""One all-reduce covers the whole model. Source: HabanaAI/Model-References, torchvision sample."""

_BACKEND: Final = "hpu_backend"
"""Backend of torch.compile, registered by the bridge; `inductor` does not support Gaudi."""

_LAZY: Final = "PT_HPU_LAZY_MODE"

_MEMINFO: Final = Path("/proc/meminfo")


def unsupported() -> str | None:
    """Why Gaudi is not supported; loads the bridge, which acquires no card. Both image kinds have one: the vendor's torch and stock torch.

    Raises: InputError for a bridge that does not load.
    """
    if importlib.util.find_spec("habana_frameworks") is None:
        return "habana-torch-plugin is not installed (it comes with the vendor's image)"
    try:
        importlib.import_module("habana_frameworks.torch")
    except (AssertionError, ImportError, OSError, RuntimeError) as problem:
        raise InputError(
            f"cannot use hpu: the vendor's bridge does not load with torch {torch.__version__} and {_LAZY}={os.environ.get(_LAZY, '(not set)')}: "
            f"{on_one_line(str(problem))}",
            hint="stock torch has no lazy mode: --gaudi-mode compile, which needs PT_HPU_LAZY_MODE=0; torch must be the one that the image came with",
        ) from problem
    return None


def missing() -> str | None:
    """Why Gaudi cannot be used; acquires no card. Raises: as `unsupported`."""
    reason = unsupported()
    if reason is not None:
        return reason
    if not torch.hpu.is_available():  # type: ignore[attr-defined]  # the bridge registers it
        return "no Gaudi card is visible"
    return None


def check(local_rank: int) -> None:
    """The bridge checks its own torch when it is loaded."""


def choose_mode(gaudi_mode: Mode | None, compile: Compile) -> Mode:  # noqa: A002 - the flag's name
    """The requested mode, otherwise lazy where the bridge was loaded for it, and compile elsewhere, unless `--compile off` asks for eager.

    Eager is never the default (docs/decisions/0032).

    Raises: InputError for a mode that the bridge was not loaded for, or has no backend for.
    """
    is_lazy = importlib.import_module("habana_frameworks.torch.core").is_lazy()
    by_flag: dict[Compile, Mode] = {"on": "compile", "off": "lazy" if is_lazy else "eager"}
    mode = gaudi_mode or by_flag.get(compile, "lazy" if is_lazy else "compile")
    if (mode == "lazy") != is_lazy:
        raise InputError(
            f"cannot train in the mode `{mode}` (from `{'--gaudi-mode' if gaudi_mode else f'--compile {compile}'}`): the bridge was loaded for {'lazy' if is_lazy else 'eager'} mode, "
            f"{_LAZY} is {on_one_line(os.environ.get(_LAZY, 'not set'))} in the environment, and it is read once",
            hint=f"set {_LAZY}={'1' if mode == 'lazy' else '0'} before the start (`launcher submit --gaudi-mode {mode}` does), or use another mode",
        )
    if mode == "compile" and _BACKEND not in torch.compiler.list_backends(exclude_tags=()):
        raise InputError(
            f"cannot train in the mode `compile`: this bridge has no backend `{_BACKEND}` for torch.compile",
            hint=f"--gaudi-mode lazy, which needs {_LAZY}=1, or an image of a newer release",
        )
    return mode


def inference_mode() -> Mode:
    """As for training: a network that runs one operation at a time lost AUC without an error (docs/decisions/0032)."""
    return choose_mode(None, "auto")


def cannot_compile() -> str | None:
    """None: `choose_mode` refuses what does not work."""
    return None


def compiled(module: nn.Module, mode: Mode) -> nn.Module:
    """With torch.compile and static shapes in the mode `compile`, itself in the others.

    Source for one graph although DDP is around it: `optimize_ddp` of the vendor's hello_world sample.
    """
    if mode != "compile":
        return module
    importlib.import_module("torch._dynamo").config.optimize_ddp = False
    compiled_module: nn.Module = torch.compile(module, backend=_BACKEND, dynamic=False)  # type: ignore[assignment]  # of a module it is one
    return compiled_module


def native_precision() -> Arithmetic:
    """bf16, which every generation computes in."""
    return "bf16"


def check_precision(precision: Arithmetic) -> None:
    """Every generation computes in both."""


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """Load the collectives, which read LOCAL_RANK and choose the card; its index is always 0."""
    importlib.import_module("habana_frameworks.torch.distributed.hccl")
    dist._DEFAULT_FIRST_BUCKET_BYTES = _FIRST_BUCKET_BYTES  # type: ignore[attr-defined]  # noqa: SLF001 - as the vendor's samples do
    return torch.device("hpu")


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16; Gaudi has no loss scaling."""
    return torch.autocast("hpu", torch.bfloat16, enabled=precision == "bf16")


def passes_at_once(cores: int) -> int:  # noqa: ARG001 - parameter of the protocol
    """1."""
    return 1


def inference_batch(crop_px: int) -> int:  # noqa: ARG001 - parameter of the protocol
    """Enough to hide the start of the operations; not tuned to a card."""
    return 32


def flush() -> None:
    """In lazy mode, run the accumulated graph; in eager mode there is none, and a marker would only warn."""
    htcore = importlib.import_module("habana_frameworks.torch.core")
    if htcore.is_lazy():
        htcore.mark_step()


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Pageable memory: no gain from pinning is known here, and its keyword changed in torch 2.8."""
    return torch.empty(shape, dtype=torch.uint8)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A blocking copy."""
    return host.to("hpu"), lambda: None


def start_upload(host: Tensor) -> tuple[Callable[[], Tensor], Callable[[], None]]:
    """As `upload`: the copy is blocking."""
    uploaded, copied = upload(host)
    return lambda: uploaded, copied


def ddp_options() -> dict[str, Any]:
    """No `device_ids`; one bucket for all 26.6 MiB of gradients."""
    return {**rank_local_buffers(), "gradient_as_bucket_view": True, "bucket_cap_mb": 100}


def optimizer_options() -> dict[str, Any]:
    """Torch's own optimisers, so that a state can be resumed on another device.

    Not the vendor's FusedAdamW: it counts steps in the parameter group instead of each parameter, its eps is 1e-6 by default, and there
    is none for Adam; a state would have to be converted at each save. Source: habana_frameworks.torch.hpex.optimizers.
    """
    return {"fused": False}


def random_state() -> Tensor | None:
    """State of this card's generator. Source: habana_frameworks.torch.hpu.random, registered by the bridge as torch.hpu.random."""
    state: Tensor = torch.hpu.random.get_rng_state()  # type: ignore[attr-defined]  # the bridge registers it
    return state.cpu()


def set_random_state(state: Tensor) -> None:
    """Restore the state of this card's generator."""
    torch.hpu.random.set_rng_state(state)  # type: ignore[attr-defined]  # the bridge registers it


def forbid_sync() -> AbstractContextManager[Any]:
    """Nothing: the bridge cannot tell."""
    return nullcontext()


def clip(parameters: Sequence[nn.Parameter], most: float) -> Tensor:
    """The vendor's fused operation where the bridge has one, otherwise torch's own; it has no state, so any device resumes a run."""
    fused = _fused_clip(most)
    if fused is None:
        return clip_grad_norm_(parameters, most)
    norm: Tensor = fused.clip_norm(parameters)
    return norm.reshape(())  # some releases return one element


@cache
def _fused_clip(most: float) -> Any:  # noqa: ANN401 - the vendor's class
    """FusedClipNorm, which keeps only the limit, on the device; None where this bridge has none.

    Source: habana_frameworks.torch.hpex.normalization: without parameters, their type is float32.
    """
    try:
        normalization = importlib.import_module("habana_frameworks.torch.hpex.normalization")
    except ImportError:
        return None
    return normalization.FusedClipNorm([], most)


def peak_memory_bytes() -> int | None:
    """Peak memory of tensors."""
    return int(torch.hpu.max_memory_allocated())  # type: ignore[attr-defined]  # the bridge registers it


def reset_peak_memory() -> None:
    """Start again from the memory in use."""
    torch.hpu.reset_peak_memory_stats()  # type: ignore[attr-defined]  # the bridge registers it


def profiled() -> Sequence[torch.profiler.ProfilerActivity]:
    """The processor's and the card's. Source: torch.profiler.ProfilerActivity."""
    return [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.HPU]


def counters() -> Mapping[str, int]:
    """`graph_compilation`, and `cpu_fallback/OPERATION` for each operation that ran on the host, as far as the bridge has such metrics.

    Source: metric_global of habana_frameworks.torch.hpu.metrics, whose values are TotalNumber and FallbackOps; None for a metric that the
    release does not know.
    """
    try:
        metric_global = importlib.import_module("habana_frameworks.torch.hpu.metrics").metric_global
    except ImportError:
        return {}
    metrics = {each: metric_global(each) for each in ("graph_compilation", "cpu_fallback")}
    stats = {each: dict(metric.stats()) for each, metric in metrics.items() if metric is not None}
    compilations = {each: int(values.get("TotalNumber", 0)) for each, values in stats.items() if each != "cpu_fallback"}
    fallbacks = dict(stats.get("cpu_fallback", {}).get("FallbackOps", {}))  # a copy: the bridge counts in it
    return {**compilations, **{f"{FALLBACK}{operation}": int(count) for operation, count in fallbacks.items()}}


def utilisation() -> float | None:
    """None: the bridge has no call for it, and `hl-smi` is not part of its contract."""
    return None


def hardware() -> str:
    return str(torch.hpu.get_device_name())  # type: ignore[attr-defined]  # the bridge registers it


def software() -> str:
    """Versions of torch and of the bridge. The contract has no call for the driver's."""
    try:
        bridge = importlib.metadata.version("habana-torch-plugin")
    except importlib.metadata.PackageNotFoundError:
        bridge = "of unknown version"
    return f"torch {torch.__version__}, habana-torch-plugin {bridge}, driver unknown"


def host_shortage() -> str | None:
    """Missing huge pages: without free ones a card may not open, or copies from the host fail. Source: the vendor's examples of pods."""
    pages = _free_huge_pages()
    return "no huge pages of 2 MiB are free on the node" if pages == 0 else None


def _free_huge_pages() -> int | None:
    """Free huge pages of the default size; None where the system does not report them. Source: proc_meminfo(5)."""
    with suppress(OSError, ValueError):
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            key, _, value = line.partition(":")
            if key == "HugePages_Free":
                return int(value)
    return None
