"""Sections of a run's page about the run: summary, curves, speed and settings."""

from collections.abc import Mapping, Sequence
from typing import Final

from trainer.evaluation.document import Data, Evaluation, extent
from trainer.evaluation.evaluate import DRAWN
from trainer.evaluation.reference import SPLITS
from trainer.label_choices import AS_READ, NAMES
from trainer.report import headline, history_figures
from trainer.report.data_notes import duplicates_in_test, incomplete, kept_apart
from trainer.report.documents import Documents
from trainer.report.formatting import (
    NONE,
    count,
    duration,
    interval,
    last_name,
    number,
    percent,
    proportion,
    size,
    without_places,
)
from trainer.report.formatting import finding as name_of
from trainer.report.page import Block, Caveats, Facts, Images, KeyNumbers, Plots, Section, Shown, Text
from trainer.report.pictures import Picture
from trainer.report.sizes import elapsed_s

_HIDDEN: Final = frozenset({"output", "cache_dir", "name", "findings"})
"""Settings with places on a machine, or shown elsewhere on the page."""

_NO_PLACE: Final = frozenset({"split"})
"""Settings with a slash that are not paths."""


def summary(one: Documents) -> Section:
    """The numbers that are read first, and what nobody may miss about them."""
    numbers, caveats = headline.numbers(one), _caveats(one)
    blocks: list[Block] = [KeyNumbers(numbers)] if numbers else []
    blocks += [Caveats(caveats)] if caveats else []
    return Section("summary", "Summary", blocks)


def data(one: Documents) -> Section:
    rows = [
        ("Model", _joined(one, "model", "head", "backbone", "loss")),
        ("Data set", last_name(str(one.setting("data") or NONE))),
        ("Images", count(one.run.get("images"))),
        ("Findings", count(len(one.setting("findings") or []) or None)),
        ("Split", _split(one)),
        *_checkpoint_rows(one),
        *_score_rows(one),
        *_speed_rows(one),
    ]
    gaps = _gaps(one)
    return Section(
        "data",
        "Model and data",
        [Facts([row for row in rows if row[1] != NONE]), *([Text(gaps)] if gaps else [])],
    )


def _split(one: Documents) -> str:
    """The requested split and, where known, the published split it equals."""
    requested = _shown_setting("split", one.setting("split"))
    if one.evaluation is None or one.evaluation["data"].get("drawn"):
        return requested
    return f"{requested}; {SPLITS.get(one.evaluation['data']['split'], NONE)}"


def _joined(one: Documents, *keys: str) -> str:
    return ", ".join(
        f"{key} {one.setting(key)}" if key != "model" else str(one.setting(key)) for key in keys if one.setting(key)
    )


def _checkpoint_rows(one: Documents) -> list[tuple[str, str]]:
    step, epoch = one.result("checkpoint", "step"), one.result("checkpoint", "epoch")
    if step is None:
        return []
    return [("Best checkpoint", f"step {step:,}, epoch {epoch:g}" if epoch is not None else f"step {step:,}")]


def _edition(data: Data) -> list[tuple[str, str]]:
    text = data.get("edition")
    return [("Edition of the labels", text)] if text else []


def _score_rows(one: Documents) -> list[tuple[str, str]]:
    """Scores that are not at the top, always with the split they are measured on."""
    rows = []
    if one.evaluation is not None:
        data, classes = one.evaluation["data"], one.evaluation["classes"]
        rows += [("Evaluated on", f"{data['part']}, {extent(data)}"), *_edition(data)]
        mean = "Mean " if len(one.evaluation["findings"]) > 1 else ""
        rows += [(f"{mean}AUPRC (95 %)", interval(one.evaluation["mean_auprc"]))]
        if classes is not None:
            rows += [("Accuracy (95 %)", proportion(classes["accuracy"])), *_class_rows(one.evaluation)]
    for part in ("val", "test"):
        value = one.result(part, "mean_auroc")
        if value is not None and not (one.evaluation is not None and one.evaluation["data"]["part"] == part):
            images = f"{count(one.result(part, 'images'))} images"
            rows.append(
                (
                    f"Mean AUROC on {part}",
                    f"{number(value)} ({images}{', used for selection' if part == 'val' else ''})",
                )
            )
    return rows


def _class_rows(evaluation: Evaluation) -> list[tuple[str, str]]:
    classes = evaluation["classes"]
    assert classes is not None
    positive = name_of(classes["positive"])
    shares = [
        (f"Sensitivity for {positive}", proportion(classes["sensitivity"])),
        (f"Specificity for {positive}", proportion(classes["specificity"])),
    ]
    return [
        ("Positive class", positive),
        *(shares if len(evaluation["findings"]) > 1 else []),  # of two classes, they are at the top
        ("Always predicting the most common class", percent(classes["majority_share"])),
    ]


def _speed_rows(one: Documents) -> list[tuple[str, str]]:
    workers = one.result("world_size") or one.run.get("world_size")
    device, hardware = one.result("device") or one.setting("device"), one.result("hardware")
    return [
        ("Trained on", f"{workers} x {device}{f' ({hardware})' if hardware else ''}" if workers else NONE),
        ("Global batch", count(one.setting("global_batch"))),
        ("Training and validation time", duration(elapsed_s(one))),
    ]


def _gaps(one: Documents) -> list[str]:
    """Missing documents and what follows from it."""
    missing = {
        "curves: no epoch was recorded": not one.entries,
        "results: the run has not ended": one.results is None,
        "intervals, curves per finding, calibration and subgroups: the run has not been evaluated, "
        "run `trainer evaluate`": one.evaluation is None,
        "validation scores: no epoch was validated": bool(one.entries)
        and not any(entry.get("val") for entry in one.entries),
        "subgroups: the data set does not contain sex, age or view": one.evaluation is not None
        and not one.evaluation["subgroups"],
    }
    return [f"Missing: {words}." for words, is_missing in missing.items() if is_missing]


def _caveats(one: Documents) -> list[str]:
    """Why the numbers may be too good, or no numbers of X-rays at all."""
    caveats = []
    if one.evaluation is not None and one.evaluation["data"].get("drawn"):
        caveats.append(f"{DRAWN[0].upper()}{DRAWN[1:]}.")
    if one.evaluation is not None and not one.evaluation["data"]["trained_on_known"]:
        caveats.append("The model's training images are unknown: evaluated images may be among them.")
    seen = one.evaluation["data"]["trained_on_images"] if one.evaluation is not None else None
    if seen:
        caveats.append(
            f"{seen:,} of the evaluated images are of patients in the training set: these scores are too optimistic."
        )
    equal = duplicates_in_test(one.run)
    return caveats if equal is None else [*caveats, equal]


def curves(one: Documents) -> Section:
    drawings = [
        drawing
        for drawing in (history_figures.loss_curves(one.entries), history_figures.score_curves(one.entries))
        if drawing
    ]
    return Section("curves", "Curves", [Plots(drawings)] if drawings else [])


def gallery(one: Documents) -> Section:
    if not one.pictures:
        return Section(
            "errors",
            "Most confident errors",
            [Text([f"No images are shown: {one.why_none}."])] if one.why_none else [],
        )
    words = (
        "The most confident errors according to the labels, which are not always right themselves. "
        "Left: the image as the model sees it. Right: the same with the class activation map of the named finding: the stronger "
        "the orange, the higher the map, from its lowest value to its highest; thin lines are at 0.5 of that range, thick ones at "
        f"0.7. Probabilities are {_calibration(one.pictures)}."
    )
    shown = [
        Shown(
            picture.uri,
            f"Image {last_name(picture.image)} beside its class activation map for {name_of(picture.finding)}",
            f"{name_of(picture.finding)}: {picture.kind}, probability {picture.probability:.3f}; "
            f"{picture.truth}. {last_name(picture.image)}",
        )
        for picture in one.pictures
    ]
    return Section("errors", "Most confident errors", [Text([words]), Images(shown)])


def _calibration(pictures: Sequence[Picture]) -> str:
    return "calibrated" if all(picture.calibrated for picture in pictures) else "before calibration"


def speed(one: Documents) -> Section:
    drawings = [
        drawing
        for drawing in (history_figures.throughput(one.entries), history_figures.data_wait(one.entries))
        if drawing
    ]
    rows = [
        ("Images per second", number(one.result("images_per_s"), 1)),
        ("Peak device memory of a worker", size(one.result("peak_device_memory_bytes"))),
        ("Device in use", percent(one.result("utilisation"))),
    ]
    known = [row for row in rows if row[1] != NONE]
    return Section("speed", "Speed", [*([Facts(known)] if known else []), *([Plots(drawings)] if drawings else [])])


def configuration(one: Documents) -> Section:
    parts = [part for part in (one.run.get("config"), one.run.get("identity")) if isinstance(part, Mapping)]
    shown = ((key, value) for part in parts for key, value in part.items() if key not in _HIDDEN and value is not None)
    settings = {key: value for key, value in shown if not _is_unmade(key, value)}
    rows = [(str(key), _shown_setting(key, value)) for key, value in settings.items()]
    return Section("configuration", "Configuration", [Facts(rows)] if rows else [])


def _is_unmade(key: str, value: object) -> bool:
    """Whether it is a choice of labels that was not made."""
    return key in NAMES and getattr(AS_READ, key) == (tuple(value) if isinstance(value, list) else value)


def _shown_setting(key: str, value: object) -> str:
    """A setting without a machine's path."""
    if value is None:
        return NONE
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(map(str, value[:3]))}{', …' if len(value) > 3 else ''}" if value else "none"
    if isinstance(value, str) and key not in _NO_PLACE:
        return last_name(value) if "/" in value or "\\" in value else value
    return str(value)


def versions(one: Documents) -> Section:
    versions = one.run.get("versions")
    rows = [(str(key), str(value)) for key, value in versions.items() if value] if isinstance(versions, Mapping) else []
    digest = one.result("checkpoint", "sha256")
    if digest:
        rows.append(("best checkpoint, sha256", str(digest)))
    return Section("versions", "Versions", [Facts(rows)] if rows else [])


def notes(one: Documents) -> Section:
    notes = [without_places(note) for note in one.evaluation["notes"]] if one.evaluation is not None else []
    if one.run.get("unidentified_patients") or one.run.get("shared_patients"):
        notes.append(f"Patients: {kept_apart(one.run)}")
    notes += [without_places(note) for note in incomplete(one.run)]
    return Section("notes", "Notes", [Text(notes)] if notes else [])
