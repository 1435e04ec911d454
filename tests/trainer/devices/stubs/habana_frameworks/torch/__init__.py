"""Registers torch.hpu; takes no device."""

import os
import types

import torch

acquired: list[str] = []


def max_memory_allocated() -> int:
    return 123


_state = [torch.zeros(4, dtype=torch.uint8)]


def set_rng_state(state: torch.Tensor) -> None:
    _state[0] = state.clone()


torch.hpu = types.SimpleNamespace(
    random=types.SimpleNamespace(get_rng_state=lambda: _state[0], set_rng_state=set_rng_state),
    is_available=lambda: os.environ.get("STUB_CARDS", "8") != "0",
    device_count=lambda: 8,
    init=lambda: acquired.append("init"),
    max_memory_allocated=max_memory_allocated,
    get_device_name=lambda: acquired.append("get_device_name") or "GAUDI2",
)
