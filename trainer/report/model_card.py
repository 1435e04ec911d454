"""Model card in Markdown: intended use, data, training, results and known limits of a model.

It is published with the model, so it names no machine, path or patient.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from trainer.card_file import FIELDS, NOT_STATED, stated_fields
from trainer.errors import on_one_line
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.cohort import cohort_rows, cohort_words
from trainer.evaluation.document import (
    FORMAT,
    Evaluation,
    Group,
    Interval,
    OperatingPoint,
    extent,
    has_unknown,
    known_images,
    mean_calibration,
    rows_of_classes,
    scale_of_thresholds,
    shown_prevalence,
    unit_of,
)
from trainer.evaluation.document import Finding as Scored
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.reference import SPLITS
from trainer.report.data_notes import data_facts, incomplete, kept_apart, labels_in_words
from trainer.report.formatting import (
    NONE,
    count,
    finding,
    interval,
    last_name,
    number,
    percent,
    proportion,
    without_places,
)
from trainer.report.known_data import known_data
from trainer.report.published_classes import HEAD, WORDS, class_rows, reference_notes

_SETTINGS: Final = (
    *(
        "preset",
        "backbone",
        "unfreeze_after",
        "loss",
        "weights",
        "epochs",
        "optimizer",
        "lr",
        "weight_decay",
        "schedule",
    ),
    *("warmup_epochs", "clip_norm", "crop", "flip", "rotate", "precision", "seed"),
)
"""Settings in the card: all that determine the numbers, and none about where the run was."""

_RULES: Final = ("youden", "specificity_90")
"""Operating points in the card; `metrics.json` has the others."""

INTENDED: Final = (
    "Research on chest X-ray classification, and as a starting point for training.",
    (
        "**Not for clinical use.** It is not a medical device, it has not been approved for diagnosis, triage or screening, and its "
        "probabilities must not decide on anyone's care."
    ),
    "Frontal chest radiographs only. Its output for other images is meaningless, and it does not reject all of them.",
)

_EARLIER: Final = (
    "The results were computed by an earlier version: intervals of few patients are too narrow, down to a single number, and thresholds "
    "are of uncalibrated probabilities, unlike those in calibration.json. `trainer evaluate` computes them again."
)

_CALIBRATIONS: Final[tuple[tuple[str, Literal["raw", "calibrated"]], ...]] = (
    ("uncalibrated", "raw"),
    ("calibrated", "calibrated"),
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model."""

    header: Mapping[str, str]
    """Metadata of `model.safetensors`."""
    parameters: int
    calibrator: Calibrator | None = None
    """Its calibration and thresholds; None without."""
    stated: Mapping[str, str] = field(default_factory=dict)
    """Fields of `--card`, in addition to those in the run's record, and instead of them."""
    files: Sequence[tuple[str, str]] = ()
    """Name and description of each file next to the card."""
    notes: Sequence[str] = ()
    """Assumptions about properties that are not recorded."""


def as_markdown(
    subject: Subject,
    record: Mapping[str, Any] | None,
    results: Mapping[str, Any] | None,
    evaluation: Evaluation | None,
) -> str:
    """The card. `record`, `results` and `evaluation` are those of the model's run; missing ones are stated in the card."""
    header = subject.header
    findings = [str(name) for name in json.loads(header["findings"])]
    stated = stated_fields(record) | dict(subject.stated)
    sections = [
        ("Intended use", _items(INTENDED)),
        ("Stated by the owner", _stated(stated)),
        ("Data", _data(record, evaluation, stated)),
        ("Cohort", _cohort(evaluation)),
        ("Images", _images(header)),
        ("Network", _network(subject, findings)),
        ("Training", _training(record, results)),
        ("Results", _results(results, evaluation)),
        ("Published results", _published(evaluation)),
        ("Operating points", _operating_points(evaluation)),
        ("Calibration", _calibration(subject, evaluation)),
        ("Subgroups", _subgroups(evaluation)),
        ("Known shortcuts and limits", _shortcuts(record, evaluation)),
        ("Files", _table(["file", "content"], subject.files) if subject.files else ""),
        (
            "Notes",
            _items(on_one_line(without_places(note)) for note in [*subject.notes, *_evaluation_notes(evaluation)]),
        ),
        ("Versions", _versions(record, results)),
    ]
    body = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections if text)
    return f"# Model card: {_title(header)}\n{body}"


def _evaluation_notes(evaluation: Evaluation | None) -> list[str]:
    """Those of the evaluation, and what has changed since an earlier version."""
    if evaluation is None:
        return []
    return [*([_EARLIER] if evaluation["format"] < FORMAT else []), *evaluation["notes"]]


def _title(header: Mapping[str, str]) -> str:
    name = header.get("name") or header["model"]
    return _cell(f"{name}, step {header['step']}" if header.get("step") else name)


def _stated(stated: Mapping[str, str]) -> str:
    """Fields that only the user knows, also those that are lacking."""
    rows = [[f"{title} (`{key}`)", _cell(stated.get(key) or NOT_STATED)] for key, title in FIELDS.items()]
    words = "Only the owner of a model knows these; `trainer export --card card.yaml` fills them in."
    return f"{words}\n\n{_table(['field', 'text'], rows)}"


def _data(record: Mapping[str, Any] | None, evaluation: Evaluation | None, stated: Mapping[str, str]) -> str:
    terms = known_data(record, evaluation).terms
    if record is None:
        return _items(["Unknown: the weights have no record of their run.", terms])
    config, identity = _part(record, "config"), _part(record, "identity")
    lines = [
        (
            f"Trained and selected on {_cell(last_name(str(config.get('data', NONE))))}, a name given by its user: "
            f"{count(record.get('images'))} images in the layout `{_cell(record.get('layout', NONE))}`."
        ),
        (
            f"Split: {_cell(_split(str(config.get('split', 'given'))))}, sha256 `{_cell(identity.get('split_sha256', NONE))}`; "
            f"{kept_apart(record)}"
        ),
        f"Labels: sha256 `{_cell(identity.get('labels_sha256', NONE))}`.",
    ]
    skipped = identity.get("skipped")
    if skipped:
        lines.append(f"{len(skipped):,} unreadable images were left out.")
    lines += map(_cell, [*labels_in_words(record), *incomplete(record)])
    facts = [[title, _cell(text)] for title, text in data_facts(record, evaluation, stated)]
    return f"{_items([*lines, terms])}\n\n{_table(['', 'data'], facts)}"


def _cohort(evaluation: Evaluation | None) -> str:
    parts = [] if evaluation is None else evaluation.get("cohort", [])
    if not parts:
        return ""
    head, *rows = ([_cell(cell) for cell in row] for row in cohort_rows(parts, finding))
    return "\n\n".join([" ".join(map(_cell, cohort_words(parts))), _table(head, rows)])


def _split(split: str) -> str:
    return split if split.startswith("patients:") else last_name(split)


def _images(header: Mapping[str, str]) -> str:
    side, crop_px = _cell(header["pack_side"]), _cell(header["crop_px"])
    fit = {
        "crop": f"the short side is resized to {side} pixels and the centre {side} x {side} is cropped",
        "pad": f"the long side is resized to {side} pixels and the rest of {side} x {side} filled with black",
        "squash": f"resized to {side} x {side} pixels, whatever their shape",
    }[header["pack_fit"]]
    return _items(
        [
            f"8-bit gray; {fit} (bilinear).",
            *_gray_range(header.get("gray_bits", "any")),
            (
                f"Of that the centre {crop_px} x {crop_px}, repeated to three channels, divided by 255, minus the mean (0.485, 0.456, 0.406), "
                "divided by (0.229, 0.224, 0.225)."
            ),
        ]
    )


def _gray_range(bits: str) -> list[str]:
    """What is black to white in 16-bit images, where the model was trained on such."""
    return [f"16-bit images: 0 to {2 ** int(bits) - 1:,} is black to white."] if bits.isdigit() else []


def _network(subject: Subject, findings: Sequence[str]) -> str:
    header = subject.header
    output = (
        "one class per image (softmax)"
        if header["loss"] == "cross_entropy"
        else "an independent probability per finding (sigmoid)"
    )
    positive_class = [f"Positive class: {_cell(finding(name))}." for name in [header.get("positive_class")] if name]
    return _items(
        [
            f"{_cell(header['model'])} with a {_cell(header['head'])} head, {subject.parameters:,} parameters.",
            f"Output: {output}; in this order: {', '.join(_cell(finding(name)) for name in findings)}.",
            *positive_class,
        ]
    )


def _training(record: Mapping[str, Any] | None, results: Mapping[str, Any] | None) -> str:
    if record is None:
        return _items(["Unknown."])
    settings = _part(record, "config") | _part(record, "identity")
    rows = [(key, settings[key]) for key in _SETTINGS if settings.get(key) is not None]
    shown = [(key, _cell(last_name(value) if isinstance(value, str) else value)) for key, value in rows]
    shown += [
        ("global batch", count(settings.get("global_batch"))),
        ("workers", f"{_cell(record.get('world_size', NONE))} x {_cell(record.get('device', NONE))}"),
    ]
    checkpoint = _part(results or {}, "checkpoint")
    if checkpoint:
        shown.append(
            (
                "checkpoint",
                f"step {_cell(checkpoint.get('step'))}, epoch {_cell(checkpoint.get('epoch'))}, the best on validation",
            )
        )
    return _table(["setting", "value"], shown)


def _results(results: Mapping[str, Any] | None, evaluation: Evaluation | None) -> str:
    if evaluation is None:
        plain = [
            f"Mean AUROC on {part}: {number(scores.get('mean_auroc'))} ({count(scores.get('images'))} images)."
            for part in ("val", "test")
            if (scores := _part(results or {}, part))
        ]
        return _items([*plain, "Not evaluated, so there are no intervals: run `trainer evaluate`."])
    data = evaluation["data"]
    of = (
        f"On {data['part']}: {extent(data)}, of {SPLITS.get(data['split'], NONE)}. In "
        f"brackets: 95 % intervals from {evaluation['resamples']:,} resamples of {unit_of(data)}s. Results on other splits are not comparable."
    )
    has_n = has_unknown(evaluation)
    rows = [_score_cells(evaluation, one, has_n=has_n) for one in evaluation["findings"]]
    means = [interval(evaluation["mean_auroc"]), interval(evaluation["mean_auprc"])]
    rows.append(["**mean**", *[""] * (2 + has_n), *means])
    table = _table(["finding", *["known labels"] * has_n, "positives", "prevalence", "AUROC", "AUPRC"], rows)
    known = ["Each finding is evaluated on the images where its label is known."] * has_n
    return "\n\n".join([of, *_seen(evaluation), *_class_scores(evaluation), *known, table])


def _seen(evaluation: Evaluation) -> list[str]:
    """Caveats about training images among the evaluated ones."""
    data = evaluation["data"]
    if not data["trained_on_known"]:
        return ["The model's training images are unknown: some of these images may be among them."]
    if data["trained_on_images"]:
        return [f"**{data['trained_on_images']:,} of these images are of patients in the training set.**"]
    return []


def _score_cells(evaluation: Evaluation, one: Scored, *, has_n: bool) -> list[str]:
    known = [count(known_images(evaluation, one))] * has_n
    share = percent(shown_prevalence(evaluation, one), 2)
    scores = [interval(one["auroc"]), interval(one["auprc"])]
    return [_cell(finding(one["name"])), *known, count(one["positives"]), share, *scores]


def _class_scores(evaluation: Evaluation) -> list[str]:
    classes = evaluation["classes"]
    if classes is None:
        return []
    positive = _cell(finding(classes["positive"]))
    lines = [
        f"Accuracy: {proportion(classes['accuracy'])}; always predicting the most common class gives {percent(classes['majority_share'])}.",
        f"Sensitivity for {positive}: {proportion(classes['sensitivity'])}.",
        f"Specificity for {positive}: {proportion(classes['specificity'])}.",
    ]
    return [_items(lines)]


def _published(evaluation: Evaluation | None) -> str:
    """Results published for the same two classes, and on which images."""
    rows = [] if evaluation is None else class_rows(evaluation)
    if evaluation is None or not rows:
        return ""
    table = _table(HEAD, [list(map(_cell, row)) for row in rows])
    return "\n\n".join([WORDS, table, _items(map(_cell, reference_notes(evaluation)))])


def _operating_points(evaluation: Evaluation | None) -> str:
    if evaluation is None or not any(one["operating_points"] for one in evaluation["findings"]):
        return ""
    fitted_on = _cell(evaluation["data"]["fitted_on"] or NONE)
    parts = [f"Thresholds were fixed on {fitted_on} and applied once, to {scale_of_thresholds(evaluation)}."]
    if evaluation["classes"] is not None:
        parts.append(rows_of_classes(_cell(finding(evaluation["classes"]["positive"]))))
    for rule in _RULES:
        points = [
            (one["name"], one["operating_points"][rule])
            for one in evaluation["findings"]
            if rule in one["operating_points"]
        ]
        rows = [
            [_cell(finding(name)), number(point["threshold"], 4), *(interval(share, 2) for share in _shares(point))]
            for name, point in points
        ]
        parts.append(
            f"For {RULE_TITLES[rule]}:\n\n"
            + _table(["finding", "threshold", "sensitivity", "specificity", "PPV", "NPV"], rows)
        )
    return "\n\n".join(parts)


def _shares(point: OperatingPoint) -> list[Interval]:
    return [point["sensitivity"], point["specificity"], point["ppv"], point["npv"]]


def _calibration(subject: Subject, evaluation: Evaluation | None) -> str:
    lines = [_fit(subject.calibrator)]
    if evaluation is not None:
        for words, which in _CALIBRATIONS:
            ece, brier = mean_calibration(evaluation, which, "ece"), mean_calibration(evaluation, which, "brier")
            if ece is not None or brier is not None:
                lines.append(
                    f"Mean over findings, {words}: expected calibration error {number(ece, 4)}, Brier score {number(brier, 4)}."
                )
    return _items(lines)


def _fit(calibrator: Calibrator | None) -> str:
    """What was fitted: for classes, the slope of their log-probabilities is an inverse temperature, the same for all."""
    if calibrator is None:
        return "No calibration was fitted."
    if calibrator.classes:
        return f"Fitted on {_cell(calibrator.fitted_on)}: one temperature, {number(1 / calibrator.slope_K[0])}, for all classes."
    return f"Fitted on {_cell(calibrator.fitted_on)}: one line through the log-odds of each finding."


def _subgroups(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation["subgroups"]:
        return ""
    groups = evaluation["subgroups"]
    has_differences = any("difference" in one for one in groups)
    head = ["by", "group", "images", "patients", "mean AUROC", *(["minus that of all others"] * has_differences)]
    return _table(head, [_subgroup(one, has_difference=has_differences) for one in groups])


def _subgroup(one: Group, *, has_difference: bool) -> list[str]:
    """A row; the reason where the subgroup has no score."""
    why = one.get("not_scored")
    auroc = f"not scored: {_cell(why)}" if why else interval(one["mean_auroc"])
    cells = [_cell(one["by"]), _cell(one["group"]), count(one["images"]), count(one["patients"]), auroc]
    if has_difference:
        cells.append(interval(one["difference"], signed=True) if "difference" in one else NONE)
    return cells


def _shortcuts(record: Mapping[str, Any] | None, evaluation: Evaluation | None) -> str:
    lines = list(known_data(record, evaluation).shortcuts)
    for one in evaluation["shortcuts"] if evaluation else []:
        known = {name: value for name, value in one["auroc"].items() if value is not None}
        if known:
            worst = max(known, key=known.__getitem__)
            lines.append(
                f"Measured here: the {_cell(one['name'])} of an image alone gives an AUROC of {number(known[worst])} for {_cell(finding(worst))}."
            )
    return _items(lines)


def _versions(record: Mapping[str, Any] | None, results: Mapping[str, Any] | None) -> str:
    rows = [(key, _cell(value)) for key, value in _part(record or {}, "versions").items() if value]
    digest = _part(results or {}, "checkpoint").get("sha256")
    if digest:
        rows.append(("checkpoint, sha256", _cell(digest)))
    return _table(["", "version"], rows) if rows else ""


def _part(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = document.get(key)
    return dict(part) if isinstance(part, Mapping) else {}


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _cell(value: object) -> str:
    """The text as a table cell: on one line, with Markdown's characters escaped."""
    text = on_one_line(str(value)).replace("\\", "\\\\")
    for mark in "|`<*[":
        text = text.replace(mark, f"\\{mark}")
    return text
