"""Predictions as JSON lines, CSV, or a table for a terminal."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from trainer.devices import Arithmetic
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.predictions import PREFIX, RAW
from trainer.formats.spreadsheet import line
from trainer.inference.predict import Prediction
from trainer.models.load import LoadedModel

_DIGITS: Final = 7
"""Precision of float32."""


def json_lines(predictions: Iterable[Prediction], trained: LoadedModel, precision: Arithmetic) -> Iterator[str]:
    """One object per line; for an unusable file only `image` and `error`."""
    for each in predictions:
        yield json.dumps(_object(each, trained, precision)) + "\n"


def _object(each: Prediction, trained: LoadedModel, precision: Arithmetic) -> dict[str, Any]:
    if each.error is not None:
        return {"image": each.image, "error": each.error}
    row: dict[str, Any] = {"image": each.image}
    if trained.loss == "cross_entropy":
        row["class"], row["confidence"] = each.best[0], round(each.best[1], _DIGITS)
    if trained.positive_class is not None:
        row["positive_class"] = trained.positive_class
    row |= {"calibrated": trained.calibrator is not None, "probability": _rounded(each.probability)}
    if trained.calibrator is not None:
        row["raw"] = _rounded(each.raw)
    row |= {"positive": each.positive} if each.positive else {}
    return row | {"precision": precision}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}


def csv_lines(predictions: Iterable[Prediction], trained: LoadedModel) -> Iterator[str]:
    """One row per image, as in a run's predictions, then decisions; unusable files are left out.

    With all digits: fewer would create ties, and thresholds would decide otherwise.
    """
    classes = trained.loss == "cross_entropy"
    decided = [] if classes or trained.calibrator is None else list(trained.findings)
    extra = ["class", "confidence"] if classes else [f"positive_{name}" for name in decided]
    positive = [] if trained.positive_class is None else [trained.positive_class]
    extra += ["positive_class"] * len(positive)
    scales = [f"{PREFIX}{name}" for name in trained.findings]
    scales += [f"{RAW}{name}" for name in trained.findings] if trained.calibrator is not None else []
    yield line(["Image Index", *scales, *extra])
    for each in predictions:
        if each.error is None:
            last: list[object] = list(each.best) if classes else []
            last += [{True: 1, False: 0, None: ""}[each.positive[name]] for name in decided]
            values = [each.probability, each.raw] if trained.calibrator is not None else [each.probability]
            yield line([each.image, *(scale[name] for scale in values for name in trained.findings), *last, *positive])


def table_lines(predictions: Iterable[Prediction], trained: LoadedModel, rule: str) -> Iterator[str]:
    """One line per image for classes, one block per image for findings."""
    good = [each for each in predictions if each.error is None]
    if good and trained.loss == "cross_entropy":
        yield from _class_table(good)
        if trained.positive_class is not None:
            yield f"\nthe positive class is {trained.positive_class}\n"
    for number, each in enumerate(good if trained.loss == "bce" else ()):
        yield from ["\n"] * (number > 0)
        yield from _block(each, trained, rule)


def _class_table(good: Sequence[Prediction]) -> Iterator[str]:
    name = max(len("image"), *(len(each.image) for each in good))
    width = max(len("class"), *(len(each.best[0]) for each in good))
    yield f"{'image':<{name}}  {'class':<{width}}  confidence\n"
    for each in good:
        yield f"{each.image:<{name}}  {each.best[0]:<{width}}  {each.best[1]:>10.4f}\n"


def _block(each: Prediction, trained: LoadedModel, rule: str) -> Iterator[str]:
    width = max(map(len, trained.findings))
    fixed = trained.calibrator.thresholds.get(rule, {}) if trained.calibrator else {}
    yield f"{each.image}\n"
    yield f"  {'finding':<{width}}  probability{f'  threshold  {RULE_TITLES[rule]}' if each.positive else ''}\n"
    for name in trained.findings:
        decision = f"  {_threshold(fixed.get(name))}  {_WORDS[each.positive[name]]}" if each.positive else ""
        yield f"  {name:<{width}}  {each.probability[name]:>11.4f}{decision}\n"


_WORDS: Final = {True: "positive", False: "negative", None: "-"}


def _threshold(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.4f}':>9}"
