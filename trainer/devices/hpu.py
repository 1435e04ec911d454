"""Intel Gaudi, written to the vendor's API contract and tested with a stub of the vendor's package, not on a card.

Source: HabanaAI/gaudi-pytorch-bridge, Model-References. Rules: the bridge is imported before the process group is
created and after torchrun has set LOCAL_RANK, by which it chooses the card; no `device_ids`; no channels_last; a step
marker after backward and after the optimiser in lazy mode; ReduceOp.AVG and SyncBatchNorm are not used.
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
"""One all-reduce covers the whole model. Source: HabanaAI/Model-References, torchvision sample."""


def missing() -> str | None:
    """Why Gaudi cannot be used; loads the bridge, which acquires no card."""
    if importlib.util.find_spec("habana_frameworks") is None:
        return "habana-torch-plugin is not installed (it comes with the vendor's image)"
    importlib.import_module("habana_frameworks.torch")
    if not torch.hpu.is_available():  # type: ignore[attr-defined]  # the bridge registers it
        return "no Gaudi card is visible"
    return None


def open(local_rank: int, local_size: int) -> torch.device:  # noqa: A001, ARG001 - name and parameters of the protocol
    """Load the collectives, which read LOCAL_RANK and choose the card; its index is always 0."""
    importlib.import_module("habana_frameworks.torch.distributed.hccl")
    dist._DEFAULT_FIRST_BUCKET_BYTES = _FIRST_BUCKET_BYTES  # type: ignore[attr-defined]  # noqa: SLF001 - as the vendor's samples do
    return torch.device("hpu")


def autocast(precision: Arithmetic) -> AbstractContextManager[Any]:
    """bf16; Gaudi has no loss scaling."""
    return torch.autocast("hpu", torch.bfloat16, enabled=precision == "bf16")


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


def ddp_options() -> dict[str, Any]:
    """No `device_ids`; one bucket for all 26.6 MiB of gradients."""
    return {**rank_local_buffers(), "gradient_as_bucket_view": True, "bucket_cap_mb": 100}


def optimizer_options() -> dict[str, Any]:
    """Torch's own optimisers, so that a state can be resumed on another device."""
    return {"fused": False}


def random_state() -> Tensor | None:
    """State of this card's generator. Source: habana_frameworks.torch.hpu.random, registered by the bridge as torch.hpu.random."""
    state: Tensor = torch.hpu.random.get_rng_state()  # type: ignore[attr-defined]  # the bridge registers it
    return state.cpu()


def set_random_state(state: Tensor) -> None:
    """Restore the state of this card's generator."""
    torch.hpu.random.set_rng_state(state)  # type: ignore[attr-defined]  # the bridge registers it


def peak_memory_bytes() -> int:
    """Peak memory of tensors."""
    return int(torch.hpu.max_memory_allocated())  # type: ignore[attr-defined]  # the bridge registers it


def utilisation() -> float | None:
    """None: the bridge has no call for it, and `hl-smi` is not part of its contract."""
    return None


def hardware() -> str:
    return str(torch.hpu.get_device_name())  # type: ignore[attr-defined]  # the bridge registers it
