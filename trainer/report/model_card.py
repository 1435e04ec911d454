"""A model card: what a model is for, what it was made of, how well it does and where it is known to fail; as Markdown.

It is passed on with the model, so it names no machine, no place and no patient.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from trainer.data.labels import FINDINGS
from trainer.errors import on_one_line
from trainer.evaluation.document import Evaluation, Interval, OperatingPoint, mean_calibration
from trainer.evaluation.document import Finding as Scored
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.reference import SPLITS
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
"""What of a run's settings is told: all that decides its numbers, and nothing about where it ran."""

_RULES: Final = ("youden", "specificity_90")
"""Operating points shown; `metrics.json` has the others."""

INTENDED: Final = (
    "Research on chest X-ray classification, and as a starting point for training.",
    (
        "**Not for clinical use.** It is no medical device, nobody has approved it for diagnosis, triage or screening, and its "
        "probabilities must not decide on anyone's care."
    ),
    "Frontal chest radiographs only. What it says of other images means nothing, and it does not refuse them all.",
)

_NIH_TERMS: Final = (
    "If the images are those of NIH ChestX-ray14: their use is not restricted; the NIH asks to link "
    "<https://nihcc.app.box.com/v/ChestXray-NIHCC>, to cite Wang et al., CVPR 2017, and to acknowledge the NIH Clinical Center "
    "as the provider."
)
_PNEUMONIA_TERMS: Final = "If the images are those of Kermany et al., Cell 2018 (chest X-rays of children, one to five years old, Guangzhou): CC BY 4.0."
_OWN_TERMS: Final = "Other data: their owner's terms hold for this model too."

_CALIBRATIONS: Final[tuple[tuple[str, Literal["raw", "calibrated"]], ...]] = (
    ("as predicted", "raw"),
    ("calibrated", "calibrated"),
)

_SHORTCUTS_14: Final = (
    (
        "View: bedside (AP) images are of sicker patients. In ChestX-ray14 the view alone gives an AUROC of .73 for edema and .65 "
        "for consolidation."
    ),
    "Treatment: many images with pneumothorax show the chest drain that treats it, and a model may look for the drain.",
    (
        "Labels were read from reports by a program. Against radiologists who looked at the images, those of pneumothorax are right "
        "in .485 of cases and find .497 of them (Majkowska et al., 2020); a high AUROC is agreement with the reports."
    ),
    "One hospital: models lose on images from elsewhere (.865 to .823 on six findings, from NIH to CheXpert, in one published run).",
    "A split by patient is not enough to compare: the official test set of NIH is harder than the 70/10/20 lists by about .03.",
)
_SHORTCUTS_CLASSES: Final = (
    (
        "Image size: in the pneumonia set the number of pixels alone tells the classes apart with an AUROC of .92, and the aspect "
        "ratio with .88; squashing images to a square leaves the aspect ratio in as distortion."
    ),
    "One source for all classes is rare: marks, borders and devices of one ward can stand for its patients' disease.",
)
"""Source: computed from the public label files, or read in the papers named."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model itself."""

    header: Mapping[str, str]
    """What `model.safetensors` says of itself at its head."""
    parameters: int
    fitted_on: str | None = None
    """What calibration and thresholds were fitted on; None without any."""
    files: Sequence[tuple[str, str]] = ()
    """Name of each file beside the card, and what it is."""
    notes: Sequence[str] = ()
    """What was assumed of it, because nothing tells."""


def as_markdown(
    subject: Subject,
    record: Mapping[str, Any] | None,
    results: Mapping[str, Any] | None,
    evaluation: Evaluation | None,
) -> str:
    """The card. `record`, `results` and `evaluation` are those of the model's run; what is missing is said to be."""
    header = subject.header
    findings = [str(name) for name in json.loads(header["findings"])]
    sections = [
        ("Intended use", _items(INTENDED)),
        ("Data", _data(record, findings, is_drawn=_is_drawn(evaluation))),
        ("Images", _images(header)),
        ("Network", _network(subject, findings)),
        ("Training", _training(record, results)),
        ("Results", _results(results, evaluation)),
        ("Operating points", _operating_points(evaluation)),
        ("Calibration", _calibration(subject, evaluation)),
        ("Subgroups", _subgroups(evaluation)),
        ("Known shortcuts and limits", _shortcuts(findings, evaluation)),
        ("Files", _table(["file", "what it is"], subject.files) if subject.files else ""),
        (
            "Notes",
            _items(
                [
                    on_one_line(without_places(note))
                    for note in [*subject.notes, *(evaluation["notes"] if evaluation else [])]
                ]
            ),
        ),
        ("Versions", _versions(record, results)),
    ]
    body = "".join(f"\n## {title}\n\n{text}\n" for title, text in sections if text)
    return f"# Model card: {_title(header)}\n{body}"


def _title(header: Mapping[str, str]) -> str:
    name = header.get("name") or header["model"]
    return _cell(f"{name}, step {header['step']}" if header.get("step") else name)


def _data(record: Mapping[str, Any] | None, findings: Sequence[str], *, is_drawn: bool) -> str:
    terms = [_NIH_TERMS if tuple(findings) == FINDINGS else _PNEUMONIA_TERMS, _OWN_TERMS]
    if is_drawn:
        terms = ["**The images are phantoms drawn by a program, no X-rays**: this model knows nothing about patients."]
    if record is None:
        return _items(["Unknown: the weights came without the record of their run.", *terms])
    config, identity = _part(record, "config"), _part(record, "identity")
    lines = [
        (
            f"Trained and chosen on {_cell(last_name(str(config.get('data', NONE))))}, data named by its user: "
            f"{count(record.get('images'))} images in the layout `{_cell(record.get('layout', NONE))}`."
        ),
        (
            f"Split: {_cell(_split(str(config.get('split', 'given'))))}, sha256 `{_cell(identity.get('split_sha256', NONE))}`; no patient is "
            "in two parts."
        ),
        f"Labels: sha256 `{_cell(identity.get('labels_sha256', NONE))}`.",
    ]
    skipped = identity.get("skipped")
    if skipped:
        lines.append(f"{len(skipped):,} images could not be read and were left out.")
    return _items([*lines, *terms])


def _is_drawn(evaluation: Evaluation | None) -> bool:
    return evaluation is not None and bool(evaluation["data"].get("drawn"))


def _split(told: str) -> str:
    return told if told.startswith("patients:") else last_name(told)


def _images(header: Mapping[str, str]) -> str:
    side, crop_px = _cell(header["pack_side"]), _cell(header["crop_px"])
    fit = {
        "crop": f"the short side is resized to {side} pixels and the centre {side} x {side} taken",
        "pad": f"the long side is resized to {side} pixels and the rest of {side} x {side} filled with black",
        "squash": f"resized to {side} x {side} pixels, whatever their shape",
    }[header["pack_fit"]]
    return _items(
        [
            f"8-bit gray; {fit} (bilinear).",
            (
                f"Of that the centre {crop_px} x {crop_px}, three equal channels, divided by 255, less the mean (0.485, 0.456, 0.406), "
                "divided by (0.229, 0.224, 0.225)."
            ),
        ]
    )


def _network(subject: Subject, findings: Sequence[str]) -> str:
    header = subject.header
    answers = (
        "one class for each image (softmax)"
        if header["loss"] == "cross_entropy"
        else "one probability for each finding, none excluding another (sigmoid)"
    )
    return _items(
        [
            f"{_cell(header['model'])} with a {_cell(header['head'])} head, {subject.parameters:,} parameters.",
            f"Answers: {answers}; in this order: {', '.join(_cell(finding(name)) for name in findings)}.",
        ]
    )


def _training(record: Mapping[str, Any] | None, results: Mapping[str, Any] | None) -> str:
    if record is None:
        return _items(["Unknown."])
    settings = _part(record, "config") | _part(record, "identity")
    rows = [(key, settings[key]) for key in _SETTINGS if settings.get(key) is not None]
    told = [(key, _cell(last_name(value) if isinstance(value, str) else value)) for key, value in rows]
    told += [
        ("global batch", count(settings.get("global_batch"))),
        ("workers", f"{_cell(record.get('world_size', NONE))} x {_cell(record.get('device', NONE))}"),
    ]
    checkpoint = _part(results or {}, "checkpoint")
    if checkpoint:
        told.append(
            (
                "checkpoint",
                f"step {_cell(checkpoint.get('step'))}, epoch {_cell(checkpoint.get('epoch'))}: the best on validation",
            )
        )
    return _table(["setting", "value"], told)


def _results(results: Mapping[str, Any] | None, evaluation: Evaluation | None) -> str:
    if evaluation is None:
        plain = [
            f"Mean AUROC on {part}: {number(scores.get('mean_auroc'))} ({count(scores.get('images'))} images)."
            for part in ("val", "test")
            if (scores := _part(results or {}, part))
        ]
        return _items([*plain, "Not evaluated: there are no intervals. `trainer evaluate` makes them."])
    data = evaluation["data"]
    of = (
        f"On {data['part']}: {data['images']:,} images of {data['patients']:,} patients, of {SPLITS.get(data['split'], NONE)}. In "
        f"brackets 95 % intervals from {evaluation['resamples']:,} resamples of patients. Numbers of other splits can't be compared."
    )
    rows = [_score_cells(one) for one in evaluation["findings"]]
    rows.append(["**mean**", "", "", interval(evaluation["mean_auroc"]), interval(evaluation["mean_auprc"])])
    table = _table(["finding", "positives", "prevalence", "AUROC", "AUPRC"], rows)
    return "\n\n".join([of, *_seen(evaluation), *_class_scores(evaluation), table])


def _seen(evaluation: Evaluation) -> list[str]:
    """What takes a reader's trust out of the numbers."""
    data = evaluation["data"]
    if not data["trained_on_known"]:
        return ["It is not known which images this model was trained on: some of these may be among them."]
    if data["trained_on_images"]:
        return [f"**{data['trained_on_images']:,} of these images are of patients it was trained on.**"]
    return []


def _score_cells(one: Scored) -> list[str]:
    name, positives = _cell(finding(one["name"])), count(one["positives"])
    return [name, positives, percent(one["prevalence"], 2), interval(one["auroc"]), interval(one["auprc"])]


def _class_scores(evaluation: Evaluation) -> list[str]:
    classes = evaluation["classes"]
    if classes is None:
        return []
    positive = _cell(finding(classes["positive"]))
    lines = [
        f"Accuracy: {proportion(classes['accuracy'])}; always saying the most common class gives {percent(classes['majority_share'])}.",
        f"Sensitivity for {positive}: {proportion(classes['sensitivity'])}.",
        f"Specificity for {positive}: {proportion(classes['specificity'])}.",
    ]
    return [_items(lines)]


def _operating_points(evaluation: Evaluation | None) -> str:
    if evaluation is None or not any(one["operating_points"] for one in evaluation["findings"]):
        return ""
    fitted_on = _cell(evaluation["data"]["fitted_on"] or NONE)
    parts = [f"Thresholds were fixed on {fitted_on} and applied once. They are of the probability before calibration."]
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
    fitted_on = subject.fitted_on
    lines = [
        f"Fitted on {_cell(fitted_on)}, one line through the log-odds of each finding."
        if fitted_on
        else "None was fitted."
    ]
    if evaluation is not None:
        for words, which in _CALIBRATIONS:
            ece, brier = mean_calibration(evaluation, which, "ece"), mean_calibration(evaluation, which, "brier")
            if ece is not None or brier is not None:
                lines.append(
                    f"Mean over findings, {words}: expected calibration error {number(ece, 4)}, Brier score {number(brier, 4)}."
                )
    return _items(lines)


def _subgroups(evaluation: Evaluation | None) -> str:
    if evaluation is None or not evaluation["subgroups"]:
        return ""
    rows = [
        [
            _cell(one["by"]),
            _cell(one["group"]),
            count(one["images"]),
            count(one["patients"]),
            interval(one["mean_auroc"]),
        ]
        for one in evaluation["subgroups"]
    ]
    return _table(["by", "group", "images", "patients", "mean AUROC"], rows)


def _shortcuts(findings: Sequence[str], evaluation: Evaluation | None) -> str:
    lines = list(_SHORTCUTS_14 if tuple(findings) == FINDINGS else _SHORTCUTS_CLASSES)
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
    """The text as it can stand in a table: on one line, without what Markdown would take for its own."""
    text = on_one_line(str(value)).replace("\\", "\\\\")
    for mark in "|`<*[":
        text = text.replace(mark, f"\\{mark}")
    return text
