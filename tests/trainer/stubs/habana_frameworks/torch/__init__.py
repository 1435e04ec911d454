"""Registers torch.hpu; takes no device."""

import os
import types

import torch

acquired: list[str] = []


def max_memory_allocated() -> int:
    return 123


torch.hpu = types.SimpleNamespace(
    is_available=lambda: os.environ.get("STUB_CARDS", "8") != "0",
    device_count=lambda: 8,
    init=lambda: acquired.append("init"),
    max_memory_allocated=max_memory_allocated,
)
