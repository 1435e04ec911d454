"""The step marker; in eager mode the vendor's is a stub that warns, so it must not be called there."""

import os

marks: list[str] = []


def is_lazy() -> bool:
    return os.environ.get("PT_HPU_LAZY_MODE", "0") != "0"


def mark_step(device_str: str = "", sync: bool = False) -> None:
    assert is_lazy(), "mark_step in eager mode warns"
    marks.append("mark_step")
