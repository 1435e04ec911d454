"""Results published for two classes, beside those of a model."""

from typing import Final

from trainer.evaluation.document import Evaluation
from trainer.evaluation.reference import class_notes, class_scores
from trainer.report.formatting import number
from trainer.report.page import Block, Table, Text

WORDS: Final = "Only results on these images are comparable with those of this model."

HEAD: Final = ("", "Images", "Accuracy", "Sensitivity for pneumonia", "Specificity", "AUROC")


def class_rows(evaluation: Evaluation) -> list[list[str]]:
    """Rows of a table: this model, then each published result; empty without any for two classes."""
    return [
        [one.name, one.images, *map(number, (one.accuracy, one.sensitivity, one.specificity, one.auroc))]
        for one in class_scores(evaluation)
    ]


def reference_notes(evaluation: Evaluation) -> list[str]:
    """What is known of each published result, and its source."""
    return [f"{names}: {one['note']}; source: {one['source']}" for names, one in class_notes(evaluation)]


def published_classes(evaluation: Evaluation) -> list[Block]:
    """Blocks of a page; empty without results published for two classes."""
    rows = class_rows(evaluation)
    return [Table(WORDS, HEAD, rows), Text(reference_notes(evaluation))] if rows else []
