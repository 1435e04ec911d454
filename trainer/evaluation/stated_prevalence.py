"""Prevalences of a population that the user states, for predictive values there."""

import re
from collections.abc import Sequence
from typing import Final

from trainer.errors import InputError, on_one_line

FLAG: Final = "--prevalence"

_SHARE = re.compile(r"0?\.[0-9]{1,9}", re.ASCII)


def stated_prevalences(values: Sequence[str], findings: Sequence[str]) -> dict[str, float]:
    """Prevalence by finding; `FINDING=SHARE` overrides a `SHARE` for all findings.

    Raises: InputError for anything else, for a finding that is not evaluated, and for one that is stated twice.
    """
    for_all: dict[str, float] = {}
    for_one: dict[str, float] = {}
    for value in values:
        name, separator, text = value.rpartition("=")
        share = _share(text, value)
        names, stated = ([name], for_one) if separator else (list(findings), for_all)
        if separator and name not in findings:
            raise InputError(
                f"cannot use a prevalence: no finding `{on_one_line(name)}` is evaluated (from `{FLAG}`)",
                hint=f"the findings are {', '.join(findings)}",
            )
        if set(names) & set(stated):
            raise InputError(
                f"cannot use two prevalences for one finding, got `{on_one_line(value)}` (from `{FLAG}`)",
                hint=f"{FLAG} 0.02, or {FLAG} FINDING=0.02 once for each finding",
            )
        stated |= dict.fromkeys(names, share)
    return for_all | for_one


def _share(text: str, value: str) -> float:
    share = float(text) if _SHARE.fullmatch(text.strip()) else 0.0
    if not 0 < share < 1:
        raise InputError(
            f"cannot use a prevalence: it must be a share above 0 and below 1, got `{on_one_line(value[:80])}` (from `{FLAG}`)",
            hint=f"{FLAG} 0.02, or {FLAG} FINDING=0.02",
        )
    return share
