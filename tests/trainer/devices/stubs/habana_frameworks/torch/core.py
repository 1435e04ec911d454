"""The step marker; in eager mode the vendor's is a stub that warns, so it must not be called there."""

from habana_frameworks.torch import LAZY

marks: list[str] = []


def is_lazy() -> bool:
    return LAZY


def mark_step(device_str: str = "", sync: bool = False) -> None:
    assert is_lazy(), "mark_step in eager mode warns"
    marks.append("mark_step")
