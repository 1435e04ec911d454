"""Sentences below a table about numbers without an interval, or with one of a single number: each reason once."""

from collections.abc import Iterable, Mapping
from typing import Final

from trainer.evaluation.document import Finding, Interval
from trainer.report.formatting import finding as name_of

_NO_SPREAD: Final = "An interval of a single number means that all resamples gave the same value, for example no error: there are too few images to estimate the uncertainty."
_NO_INTERVAL: Final = (
    "A number has no interval where all resamples gave the same value, for example no error, or at least half of them lack "
    "positives or negatives of the finding; a mean has none where one of its findings has none for such a reason."
)


def remarks(shown: Iterable[tuple[Finding | None, Interval]]) -> list[str]:
    """Of these numbers, each with the finding that it is of; None for a mean."""
    reasons: dict[str, list[str]] = {}
    no_spread = unexplained = False
    for finding, one in shown:
        if one["value"] is None:
            continue
        if one["low"] is not None:
            no_spread |= one["low"] == one["high"]
            continue
        reason = finding.get("too_few") if finding is not None else None
        if finding is None or reason is None:
            unexplained |= finding is not None or not reasons
        elif name_of(finding["name"]) not in reasons.setdefault(reason, []):
            reasons[reason].append(name_of(finding["name"]))
    return [
        *by_reason("No interval", reasons),
        *([_NO_SPREAD] if no_spread else []),
        *([_NO_INTERVAL] if unexplained else []),
    ]


def by_reason(what: str, reasons: Mapping[str, Iterable[str]]) -> list[str]:
    """A sentence with the names that each reason is true of; none without reasons."""
    groups = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
    return [f"{what}: {'; '.join(groups)}."] if groups else []
