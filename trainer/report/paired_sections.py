"""Differences between models on the same resamples."""

from collections.abc import Sequence

from trainer.evaluation.document import Evaluation
from trainer.report.page import Section


def paired(evaluations: Sequence[Evaluation]) -> Section:
    raise NotImplementedError(len(evaluations))
