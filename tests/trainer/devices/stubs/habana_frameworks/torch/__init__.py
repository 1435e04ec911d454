"""Registers torch.hpu and the compile backend; takes no device.

STUB_CARDS is the number of cards, STUB_IMAGE the kind of image: `fork` has the vendor's torch, `upstream` stock torch. As in the vendor's
package, PT_HPU_LAZY_MODE is read once, here, and lazy mode refuses stock torch.
"""

import os
import types

import torch

LAZY = os.environ.get("PT_HPU_LAZY_MODE", "0") != "0"

if LAZY and os.environ.get("STUB_IMAGE", "fork") == "upstream":
    raise AssertionError(f"Stock PyTorch version {torch.__version__} is not supported in Lazy mode.")

if not LAZY and os.environ.get("STUB_BACKEND", "1") != "0":
    import habana_frameworks.torch.compile_backend  # noqa: F401 - registers itself; lazy mode has none

acquired: list[str] = []


def max_memory_allocated() -> int:
    return 123


forgotten: list[str] = []

_state = [torch.zeros(4, dtype=torch.uint8)]


def set_rng_state(state: torch.Tensor) -> None:
    _state[0] = state.clone()


torch.hpu = types.SimpleNamespace(
    random=types.SimpleNamespace(get_rng_state=lambda: _state[0], set_rng_state=set_rng_state),
    is_available=lambda: os.environ.get("STUB_CARDS", "8") != "0",
    device_count=lambda: 8,
    init=lambda: acquired.append("init"),
    max_memory_allocated=max_memory_allocated,
    reset_peak_memory_stats=lambda: forgotten.append("peak"),
    get_device_name=lambda: acquired.append("get_device_name") or "GAUDI2",
)
