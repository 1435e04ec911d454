"""Notes of an evaluation: what its numbers do not show.

Shapes: N images, K findings.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.data.labels import POSITIVE_FROM
from trainer.evaluation.bootstrap import mean_over_findings
from trainer.evaluation.document import FEWEST, Finding, Group
from trainer.evaluation.known_labels import fractions
from trainer.evaluation.metadata import Metadata
from trainer.evaluation.sample import Sample

_NOTED: Final = 5e-5
"""Difference of calibration errors from which on it is noted: smaller ones are equal as printed."""


def undefined(sample: Sample) -> list[str]:
    """Findings without a score or an interval, and resamples without a score for a finding."""
    notes = [*_absent(sample), *_too_few(sample)]
    defined_K = np.asarray(~np.isnan(sample.draws.auroc_BK).all(axis=0))
    enough = [name for k, name in enumerate(sample.findings) if sample.too_few(k) is None]
    for k, name in enumerate(sample.findings):
        lost = int(np.isnan(sample.draws.auroc_BK[:, k]).sum())
        if name in enough and lost:
            notes.append(
                f"{name}: {lost:,} of {sample.resamples.count:,} resamples skipped, without positives or without negatives"
            )
    lost = int(np.isnan(mean_over_findings(sample.draws.auroc_BK, defined_K)).sum())
    if lost and len(enough) == int(defined_K.sum()) > 1:
        notes.append(f"mean: {lost:,} of {sample.resamples.count:,} resamples skipped, in which a finding was skipped")
    return notes


def _absent(sample: Sample) -> list[str]:
    """Findings without a score."""
    counts = zip(sample.findings, *((sample.labels_NK == value).sum(axis=0).tolist() for value in (1, 0)), strict=True)
    unknown_K = np.isnan(sample.labels_NK).any(axis=0).tolist()
    return [
        f"{name}: not evaluated: {_why_absent(positives, negatives, has_unknown=unknown_K[k])}"
        for k, (name, positives, negatives) in enumerate(counts)
        if not (positives and negatives)
    ]


def _why_absent(positives: int, negatives: int, *, has_unknown: bool) -> str:
    if not positives + negatives and has_unknown:
        return "its label is unknown for all images here"
    among = " with a known label" if has_unknown else ""
    return f"{'every' if positives else 'no'} image here{among} has it"


def _too_few(sample: Sample) -> list[str]:
    """Findings with a score but no interval, and what follows for the mean."""
    few = [
        f"{name} ({count.too_few(sample.unit)})"
        for name, count in zip(sample.findings, sample.counts, strict=True)
        if not count.are_enough and min(count.positive, count.negative) > 0
    ]
    if not few:
        return []
    rule = f"fewer than {FEWEST} {sample.unit}s with, or without, the finding"
    mean = ", and so for the mean" if len(sample.findings) > 1 else ""
    return [f"no intervals for {rule}{mean}: {', '.join(few)}"]


def worse_calibrated(findings: Sequence[Finding]) -> list[str]:
    """Findings whose calibration error is greater after calibration."""
    worse = [
        f"{one['name']} ({before:.4f} to {after:.4f})"
        for one in findings
        if one["calibrated"] is not None
        and (before := one["raw"]["ece"]) is not None
        and (after := one["calibrated"]["ece"]) is not None
        and after - before > _NOTED
    ]
    if not worse:
        return []
    return [f"calibration made the expected calibration error greater on these images: {', '.join(worse)}"]


def labels(findings: Sequence[str], labels_NK: NDArray[np.floating]) -> list[str]:
    """Labels that are unknown, and those that are fractions."""
    notes = []
    known_K = (~np.isnan(labels_NK)).sum(axis=0).tolist()
    partly = [f"{name} ({known:,})" for name, known in zip(findings, known_K, strict=True) if known < len(labels_NK)]
    if partly:
        notes.append(
            f"some labels of the {len(labels_NK):,} images are unknown: a finding is evaluated on the images where its label is "
            f"known: {', '.join(partly)}"
        )
    if soft := fractions(labels_NK):
        notes.append(f"{soft:,} labels are fractions: from {POSITIVE_FROM:g} on they count as positive")
    return notes


def unknown(metadata: Metadata | None, images: int) -> list[str]:
    """Attributes that are unknown for some images."""
    if metadata is None:
        return []
    counts = {
        "sex": int((metadata.sex_N == "").sum()),
        "age": int(np.isnan(metadata.age_N).sum()),
        "view": int((metadata.view_N == "").sum()),
    }
    notes = [
        f"{what} unknown for {count:,} of {images:,} images, which are in no group by {what}"
        for what, count in counts.items()
        if 0 < count < images
    ]
    return [*metadata.notes, *notes]


def partial(groups: Sequence[Group], findings: Sequence[Finding]) -> Iterator[str]:
    """Groups without scores, groups whose mean lacks findings, and groups whose images are also in another."""
    if {"under 18", "under 40"} <= {group["group"] for group in groups}:
        yield "age under 18 is also in the group under 40"
    for group in groups:
        name = f"{group['by']} {group['group']}"
        if group["not_scored"]:
            yield f"{name}: not scored: {group['not_scored']}"
            continue
        defined = [one["name"] for one in findings if one["auroc"]["value"] is not None]
        absent = [finding for finding in defined if group["auroc"][finding]["value"] is None]
        if absent:
            yield f"mean of {name}: without {', '.join(absent)}, for which it has too few patients"
