"""Intel Gaudi, written to the vendor's API contract; no card was at hand (tests use a stub of the vendor's package).

Source: HabanaAI/gaudi-pytorch-bridge, Model-References. Rules kept here: the bridge is imported before the process
group is made and after torchrun has set LOCAL_RANK, by which it chooses the card; no `device_ids`; no channels_last; a
step marker after backward and after the optimiser in lazy mode; ReduceOp.AVG and SyncBatchNorm are not used anywhere.
"""

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from trainer.devices import Arithmetic, rank_local_buffers

name = "hpu"
backend = "hccl"
native_precision: Arithmetic = "bf16"
memory_format = torch.contiguous_format

_FIRST_BUCKET_BYTES = 230 * 1024 * 1024
"""One all-reduce covers the model. Source: HabanaAI/Model-References, torchvision sample."""


def missing() -> str | None:
    """What keeps Gaudi from working; loads the bridge, which takes no card."""
    if importlib.util.find_spec("habana_frameworks") is None:
        return "habana-torch-plugin is not installed (it comes with the vendor's image)"
    importlib.import_module("habana_frameworks.torch")
    if not torch.hpu.is_available():  # type: ignore[attr-defined]  # the bridge registers it
        return "no Gaudi card is visible"
    return None


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - the protocol's word and parameters
    """Load the collectives, which read LOCAL_RANK and choose the card; its index is always 0."""
    importlib.import_module("habana_frameworks.torch.distributed.hccl")
    dist._DEFAULT_FIRST_BUCKET_BYTES = _FIRST_BUCKET_BYTES  # type: ignore[attr-defined]  # noqa: SLF001 - as the vendor's samples do
    return torch.device("hpu")


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16; Gaudi has no loss scaling."""
    return torch.autocast("hpu", torch.bfloat16, enabled=precision == "bf16")


def flush() -> None:
    """Lazy mode runs the graph gathered so far; eager mode has nothing to run, and its marker only warns."""
    htcore = importlib.import_module("habana_frameworks.torch.core")
    if htcore.is_lazy():
        htcore.mark_step()


def host_buffer(shape: tuple[int, ...]) -> Tensor:
    """Plain memory: what pinning gains here is not shown, and its keyword changed at torch 2.8."""
    return torch.empty(shape, dtype=torch.uint8)


def upload(host: Tensor) -> tuple[Tensor, Callable[[], None]]:
    """A copy that has left the buffer when it returns."""
    return host.to("hpu"), lambda: None


def ddp_options() -> dict[str, Any]:
    """No `device_ids`; a bucket that holds all 26.6 MiB of gradients."""
    return {**rank_local_buffers(), "gradient_as_bucket_view": True, "bucket_cap_mb": 100}


def optimizer_options() -> dict[str, Any]:
    """The optimisers of torch itself, so that a state can be resumed on another device."""
    return {"fused": False}


def random_state() -> Tensor | None:
    """This card's. Source: habana_frameworks.torch.hpu.random, which the bridge registers as torch.hpu.random."""
    state: Tensor = torch.hpu.random.get_rng_state()  # type: ignore[attr-defined]  # the bridge registers it
    return state.cpu()


def set_random_state(state: Tensor) -> None:
    """This card's."""
    torch.hpu.random.set_rng_state(state)  # type: ignore[attr-defined]  # the bridge registers it


def peak_memory_bytes() -> int:
    """Most memory that tensors took."""
    return int(torch.hpu.max_memory_allocated())  # type: ignore[attr-defined]  # the bridge registers it


def utilisation() -> float | None:
    """Not told: the bridge has no call for it, and `hl-smi` is no part of its contract."""
    return None


def hardware() -> str:
    """The card's name."""
    return str(torch.hpu.get_device_name())  # type: ignore[attr-defined]  # the bridge registers it
