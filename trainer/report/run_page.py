"""The page of one run, section by section in the order of a reviewer's questions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from trainer.errors import InputError
from trainer.evaluation.assess import DRAWN
from trainer.evaluation.evidence import Evidence, Interval, OperatingPoint, Proportion
from trainer.evaluation.operating import RULE_TITLES
from trainer.evaluation.reference import SPLITS
from trainer.layout import REPORT
from trainer.report import evidence_figures, history_figures, pictures
from trainer.report.documents import GALLERY, Documents, read
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
from trainer.report.page import Block, Facts, Images, Plots, Section, Shown, Table, Words, page
from trainer.report.sizes import elapsed_s
from trainer.storage import Storage

CURVES: Final = "report/curves.png"

_NO_SPREAD: Final = "An interval that is one number says that no resample differed, as where nothing is wrong: too few images to tell how sure it is."
_NO_INTERVAL: Final = (
    "A number without an interval: a finding, or its absence, is not in half of the resamples or more."
)

_HIDDEN: Final = frozenset({"output", "cache_dir", "name", "findings"})
"""Settings that say where a machine keeps things, or that stand elsewhere on the page."""

_NO_PLACE: Final = frozenset({"split"})
"""Settings with a slash that are no path."""


def files(documents: Documents) -> dict[str, bytes]:
    """What a run's report consists of, by key of the run's prefix."""
    content = {REPORT: html(documents).encode(), CURVES: history_figures.curves_png(documents.entries)}
    if documents.pictures:
        content[GALLERY] = pictures.to_bytes(documents.pictures)
    return content


def write(storage: Storage) -> None:
    """Write the report of the run at this place, anew from what it holds; its gallery stays.

    Raises: InputError where there is no run, or its documents are not as this program writes them; RemoteError as the storage.
    """
    for key, content in files(read(storage)).items():
        storage.write(key, content)


def html(documents: Documents) -> str:
    """The page. Raises: InputError when a document is not as this program writes it."""
    try:
        sections = [section(documents) for section in _SECTIONS]
        return page(f"Run {documents.name}", _subtitle(documents), sections)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as problem:
        reason = f"a document of it is not as expected ({type(problem).__name__}: {problem})"
        raise InputError(
            f"cannot report on the run `{documents.name}`: {reason}", hint="was it written by another version?"
        ) from problem


def _subtitle(documents: Documents) -> str:
    data = last_name(str(documents.setting("data") or "unknown data"))
    return f"{documents.setting('model') or 'A model'}, trained on {data}"


def _summary(one: Documents) -> Section:
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
        "summary", "Summary", [Facts([row for row in rows if row[1] != NONE]), *([Words(gaps)] if gaps else [])]
    )


def _split(one: Documents) -> str:
    """How it was asked for and, where that is known, whose split it is."""
    asked = _shown_setting("split", one.setting("split"))
    if one.evidence is None or one.evidence["data"].get("drawn"):
        return asked
    return f"{asked}; {SPLITS.get(one.evidence['data']['split'], NONE)}"


def _joined(one: Documents, *keys: str) -> str:
    return ", ".join(
        f"{key} {one.setting(key)}" if key != "model" else str(one.setting(key)) for key in keys if one.setting(key)
    )


def _checkpoint_rows(one: Documents) -> list[tuple[str, str]]:
    step, epoch = one.result("checkpoint", "step"), one.result("checkpoint", "epoch")
    if step is None:
        return []
    return [("Best checkpoint", f"step {step:,}, epoch {epoch:g}" if epoch is not None else f"step {step:,}")]


def _score_rows(one: Documents) -> list[tuple[str, str]]:
    """What it came to: with intervals where it was evaluated, always with the part that the numbers are of."""
    rows = []
    if one.evidence is not None:
        data, classes = one.evidence["data"], one.evidence["classes"]
        of = f"{data['part']}, {data['images']:,} images of {data['patients']:,} patients"
        rows += [("Scored on", of), ("Mean AUROC (95 %)", interval(one.evidence["mean_auroc"]))]
        rows += [("Mean AUPRC (95 %)", interval(one.evidence["mean_auprc"]))]
        if classes is not None:
            rows += [("Accuracy (95 %)", proportion(classes["accuracy"])), *_class_rows(one.evidence)]
    for part in ("val", "test"):
        value = one.result(part, "mean_auroc")
        if value is not None and not (one.evidence is not None and one.evidence["data"]["part"] == part):
            images = f"{count(one.result(part, 'images'))} images"
            rows.append(
                (
                    f"Mean AUROC on {part}",
                    f"{value:.3f} ({images}{', by which it was chosen' if part == 'val' else ''})",
                )
            )
    return rows


def _class_rows(evidence: Evidence) -> list[tuple[str, str]]:
    classes = evidence["classes"]
    assert classes is not None
    positive = name_of(classes["positive"])
    return [
        (f"Sensitivity for {positive}", proportion(classes["sensitivity"])),
        (f"Specificity for {positive}", proportion(classes["specificity"])),
        ("Always the most common class", percent(classes["majority_share"])),
    ]


def _speed_rows(one: Documents) -> list[tuple[str, str]]:
    workers = one.result("world_size") or one.run.get("world_size")
    device, hardware = one.result("device") or one.setting("device"), one.result("hardware")
    return [
        ("Trained on", f"{workers} x {device}{f' ({hardware})' if hardware else ''}" if workers else NONE),
        ("Global batch", count(one.setting("global_batch"))),
        ("Training and validation took", duration(elapsed_s(one))),
    ]


def _gaps(one: Documents) -> list[str]:
    """What a reader would look for and not find."""
    missing = {
        "no epoch has been recorded: there are no curves": not one.entries,
        "the run has not ended: there are no results": one.results is None,
        "it has not been evaluated, so there are no intervals, curves per finding, calibration or subgroups: "
        "`trainer evaluate` makes them": one.evidence is None,
        "no epoch was validated": bool(one.entries) and not any(entry.get("val") for entry in one.entries),
        "the data set tells neither sex, age nor view of its patients: there are no subgroups": one.evidence is not None
        and not one.evidence["subgroups"],
    }
    gaps = [f"Missing: {words}." for words, is_missing in missing.items() if is_missing]
    if one.evidence is not None and one.evidence["data"].get("drawn"):
        gaps.insert(0, f"{DRAWN[0].upper()}{DRAWN[1:]}.")
    if one.evidence is not None and not one.evidence["data"]["trained_on_known"]:
        gaps.append("It is not known which images this model was trained on: its scores may be of images it has seen.")
    seen = one.evidence["data"]["trained_on_images"] if one.evidence is not None else None
    if seen:
        gaps.append(f"{seen:,} of the images scored are of patients it was trained on: these scores flatter it.")
    return gaps


def _curves(one: Documents) -> Section:
    drawings = [
        drawing
        for drawing in (history_figures.loss_curves(one.entries), history_figures.score_curves(one.entries))
        if drawing
    ]
    return Section("curves", "Curves", [Plots(drawings)] if drawings else [])


def _findings(one: Documents) -> Section:
    blocks: list[Block] = []
    if one.evidence is not None:
        data = one.evidence["data"]
        blocks.append(
            Table(
                f"{data['part']}: {data['images']:,} images; 95 % intervals from {one.evidence['resamples']:,} resamples of "
                f"{data['patients']:,} patients.",
                [
                    "Finding",
                    "Positives",
                    "Prevalence",
                    "AUROC",
                    "AUPRC",
                    "ECE",
                    "ECE calibrated",
                    "Brier",
                    "Brier calibrated",
                ],
                _finding_rows(one.evidence),
            )
        )
        blocks += _remarks(
            [score for f in one.evidence["findings"] for score in (f["auroc"], f["auprc"])],
            "ECE is the expected calibration error (15 bins), Brier the mean squared error; both as predicted and after calibration.",
        )
        blocks += _class_tables(one.evidence)
        blocks.append(Plots([evidence_figures.auroc_forest(one.evidence)]))
    elif one.results is not None:
        blocks += _plain_scores(one)
    return Section("findings", "Each finding", blocks)


def _remarks(shown: Sequence[Interval], *words: str) -> list[Block]:
    """What keeps a reader from trusting these intervals too much, after other words about them."""
    defined = [one for one in shown if one["value"] is not None]
    lines = [
        *words,
        *([_NO_SPREAD] if any(one["low"] is not None and one["low"] == one["high"] for one in defined) else []),
        *([_NO_INTERVAL] if any(one["low"] is None for one in defined) else []),
    ]
    return [Words(lines)] if lines else []


def _finding_rows(evidence: Evidence) -> list[list[str]]:
    rows = []
    for one in evidence["findings"]:
        after = one["calibrated"]
        rows.append(
            [
                name_of(one["name"]),
                count(one["positives"]),
                percent(one["prevalence"]),
                interval(one["auroc"]),
                interval(one["auprc"]),
                number(one["raw"]["ece"], 4),
                number(after["ece"], 4) if after else NONE,
                number(one["raw"]["brier"], 4),
                number(after["brier"], 4) if after else NONE,
            ]
        )
    mean = ["mean", "", "", interval(evidence["mean_auroc"]), interval(evidence["mean_auprc"])]
    return [*rows, [*mean, *_mean_calibration(evidence)]]


def _mean_calibration(evidence: Evidence) -> list[str]:
    cells = []
    for key in ("ece", "brier"):
        for which in ("raw", "calibrated"):
            parts: list[Any] = [one["raw"] if which == "raw" else one["calibrated"] for one in evidence["findings"]]
            values = [part[key] for part in parts if part is not None and part[key] is not None]
            cells.append(number(sum(values) / len(values) if values and len(values) == len(parts) else None, 4))
    return cells


def _class_tables(evidence: Evidence) -> list[Block]:
    classes = evidence["classes"]
    if classes is None:
        return []
    rows = [[name_of(name), _counted(one), _share(one)] for name, one in classes["recall"].items()]
    rows.append(["all (accuracy)", _counted(classes["accuracy"]), _share(classes["accuracy"])])
    return [
        Table("Images of each class that were taken for it; Wilson's 95 % interval.", ["Class", "Right", "Share"], rows)
    ]


def _counted(one: Proportion) -> str:
    return f"{one['correct']:,} of {one['total']:,}"


def _share(one: Proportion) -> str:
    return proportion(one).partition(",")[0]


def _plain_scores(one: Documents) -> list[Block]:
    """AUROC without intervals, as the run itself has noted it."""
    parts = [part for part in ("val", "test") if isinstance(one.result(part, "auroc"), Mapping)]
    if not parts:
        return []
    names = list(one.result(parts[0], "auroc"))
    rows = [[name_of(name), *(number(one.result(part, "auroc", name)) for part in parts)] for name in names]
    rows.append(["mean", *(number(one.result(part, "mean_auroc")) for part in parts)])
    return [Table("AUROC of the best checkpoint, without intervals.", ["Finding", *parts], rows)]


def _roc(one: Documents) -> Section:
    if one.evidence is None:
        return Section("roc", "ROC and precision-recall")
    found = one.evidence["findings"]
    data = one.evidence["data"]
    caption = (
        f"On {data['part']}, {data['images']:,} images. Written in each: the area with its 95 % interval, AUROC or AUPRC. "
        "The band is the pointwise 95 % interval over resamples of patients; the dashed line is guessing."
    )
    drawings = [
        draw(finding) for finding in found for draw in (evidence_figures.roc, evidence_figures.precision_recall)
    ]
    return Section("roc", "ROC and precision-recall", [Plots(drawings, caption)])


def _calibration(one: Documents) -> Section:
    if one.evidence is None:
        return Section("calibration", "Calibration")
    fitted_on = one.evidence["data"]["fitted_on"]
    words = "No calibration was fitted: probabilities are as the network gives them."
    if fitted_on:
        words = f"Calibration was fitted on {without_places(fitted_on)}, and is only applied here."
    data = one.evidence["data"]
    caption = (
        f"On {data['part']}, {data['images']:,} images: share of positives over the mean predicted probability of each bin, the larger the "
        "mark the more images; on the dashed line a probability is a frequency."
    )
    plots = Plots([evidence_figures.reliability(finding) for finding in one.evidence["findings"]], caption)
    return Section("calibration", "Calibration", [Words([words]), plots])


def _operating(one: Documents) -> Section:
    if one.evidence is None:
        return Section("operating", "Operating points")
    found = one.evidence["findings"]
    rules = list(dict.fromkeys(rule for finding in found for rule in finding["operating_points"]))
    data = one.evidence["data"]
    head = ["Finding", "Threshold", "Sensitivity", "Specificity", "PPV", "NPV", "F1"]
    fitted_on = without_places(data["fitted_on"] or "another split")
    points_shown = [point for finding in found for point in finding["operating_points"].values()]
    words = f"Thresholds are of the probability before calibration. What they do is counted on {data['part']}, with 95 % intervals by patient."
    shares = [point[key] for point in points_shown for key in ("sensitivity", "specificity", "ppv", "npv")]
    blocks: list[Block] = _remarks(shares, words) if rules else []
    for rule in rules:
        points = {finding["name"]: finding["operating_points"].get(rule) for finding in found}
        rows = [[name_of(name), *_point_cells(point)] for name, point in points.items() if point is not None]
        blocks.append(Table(f"Thresholds for {RULE_TITLES.get(rule, rule)}, fixed on {fitted_on}.", head, rows))
    return Section("operating", "Operating points", blocks)


def _point_cells(point: OperatingPoint) -> list[str]:
    shares = [interval(share, 2) for share in (point["sensitivity"], point["specificity"], point["ppv"], point["npv"])]
    return [number(point["threshold"], 4), *shares, number(point["f1"])]


def _subgroups(one: Documents) -> Section:
    if one.evidence is None or not one.evidence["subgroups"]:
        return Section("subgroups", "Subgroups")
    groups, found = one.evidence["subgroups"], [finding["name"] for finding in one.evidence["findings"]]
    part = one.evidence["data"]["part"]
    forest = evidence_figures.subgroups_forest(one.evidence)
    undefined = {"value": None, "low": None, "high": None}
    totals = [
        [
            evidence_figures.group_name(group),
            count(group["images"]),
            count(group["patients"]),
            interval(group["mean_auroc"]),
        ]
        for group in groups
    ]
    each = [
        [name_of(name), *(interval(group["auroc"].get(name, undefined), 2) for group in groups)]  # type: ignore[arg-type] # same keys
        for name in found
    ]
    return Section(
        "subgroups",
        "Subgroups",
        [
            *([Plots([forest])] if forest else []),
            Table(
                f"Mean AUROC of each subgroup of {part}.",
                ["Subgroup", "Images", "Patients", "Mean AUROC (95 %)"],
                totals,
            ),
            Table(
                f"AUROC of each finding by subgroup of {part}.",
                ["Finding", *map(evidence_figures.group_name, groups)],
                each,
            ),
            *_remarks([score for group in groups for score in (group["mean_auroc"], *group["auroc"].values())]),
        ],
    )


def _references(one: Documents) -> Section:
    if one.evidence is None or not one.evidence["references"]:
        return Section("references", "Published results")
    references, found = one.evidence["references"], one.evidence["findings"]
    beside = [reference for reference in references if reference["comparable"]]
    others = [reference for reference in references if not reference["comparable"]]
    blocks: list[Block] = []
    if beside:
        rows = [
            [name_of(f["name"]), interval(f["auroc"]), *(number(r["auroc"].get(f["name"]), 4) for r in beside)]
            for f in found
        ]
        rows.append(["mean", interval(one.evidence["mean_auroc"]), *(number(r["mean"], 4) for r in beside)])
        blocks.append(
            Table(
                f"AUROC on the very same images: {one.evidence['data']['part']} of {SPLITS[one.evidence['data']['split']]}.",
                ["Finding", "this run (95 %)", *(r["name"] for r in beside)],
                rows,
            )
        )
    if others:
        rows = [[name_of(f["name"]), *(number(r["auroc"].get(f["name"]), 4) for r in others)] for f in found]
        rows.append(["mean", *(number(r["mean"], 4) for r in others)])
        head = ["Finding", *(f"{r['name']} ({r['split']} split)" for r in others)]
        blocks.append(Table("AUROC on other images: not comparable with those of this page.", head, rows))
    blocks.append(Words([f"{r['name']}: {r['note']}; source: {r['source']}" for r in references]))
    return Section("references", "Published results", blocks)


def _comparison(one: Documents) -> Section:
    compared = one.evidence["comparison"] if one.evidence is not None else None
    if compared is None:
        return Section("comparison", "Comparison")
    other = last_name(compared["other"])
    rows = [
        [
            name_of(row["name"]),
            number(row["ours"]),
            number(row["other"]),
            interval(row["difference"]),
            number(row["p"]),
            number(row["p_holm"]),
        ]
        for row in compared["differences"]
    ]
    caption = (
        f"AUROC of this model minus that of {other}, on the same resamples of patients; p by Holm for all findings."
    )
    head = ["Finding", "this model", other, "Difference (95 %)", "p", "p (Holm)"]
    return Section("comparison", "Comparison", [Table(caption, head, rows)])


def _shortcuts(one: Documents) -> Section:
    if one.evidence is None or not one.evidence["shortcuts"]:
        return Section("shortcuts", "Shortcuts")
    found = one.evidence["findings"]
    rows = [[name_of(f["name"]), number(f["auroc"]["value"])] for f in found]
    for row, finding in zip(rows, found, strict=True):
        row += [number(shortcut["auroc"].get(finding["name"])) for shortcut in one.evidence["shortcuts"]]
    words = (
        "How well a number that says nothing about the lungs tells them apart: a model may have learnt that instead."
    )
    head = ["Finding", "this model", *(shortcut["name"] for shortcut in one.evidence["shortcuts"])]
    return Section(
        "shortcuts",
        "Shortcuts",
        [Words([words]), Table(f"AUROC on {one.evidence['data']['part']}; 0.5 is chance.", head, rows)],
    )


def _gallery(one: Documents) -> Section:
    if not one.pictures:
        return Section(
            "errors",
            "Most confident errors",
            [Words([f"No images are shown: {one.why_none}."])] if one.why_none else [],
        )
    words = (
        "Images on which the model was most sure, and wrong by their labels, which are not always right themselves. "
        "Left the image as the model sees it, right where its answer comes from: the class activation map of the finding named. "
        "Probabilities are before calibration."
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
    return Section("errors", "Most confident errors", [Words([words]), Images(shown)])


def _speed(one: Documents) -> Section:
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


def _configuration(one: Documents) -> Section:
    parts = [part for part in (one.run.get("config"), one.run.get("identity")) if isinstance(part, Mapping)]
    settings = {key: value for part in parts for key, value in part.items() if key not in _HIDDEN and value is not None}
    rows = [(str(key), _shown_setting(key, value)) for key, value in settings.items()]
    return Section("configuration", "Configuration", [Facts(rows)] if rows else [])


def _shown_setting(key: str, value: object) -> str:
    """A setting without the place of a machine in it."""
    if value is None:
        return NONE
    if isinstance(value, list):
        return f"{len(value)}: {', '.join(map(str, value[:3]))}{', …' if len(value) > 3 else ''}" if value else "none"
    if isinstance(value, str) and key not in _NO_PLACE:
        return last_name(value) if "/" in value or "\\" in value else value
    return str(value)


def _versions(one: Documents) -> Section:
    versions = one.run.get("versions")
    rows = [(str(key), str(value)) for key, value in versions.items() if value] if isinstance(versions, Mapping) else []
    digest = one.result("checkpoint", "sha256")
    if digest:
        rows.append(("best checkpoint, sha256", str(digest)))
    return Section("versions", "Versions", [Facts(rows)] if rows else [])


def _notes(one: Documents) -> Section:
    notes = [without_places(note) for note in one.evidence["notes"]] if one.evidence is not None else []
    return Section("notes", "Notes", [Words(notes)] if notes else [])


_SECTIONS: Final[Sequence[Callable[[Documents], Section]]] = (
    _summary,
    _curves,
    _findings,
    _roc,
    _calibration,
    _operating,
    _subgroups,
    _references,
    _comparison,
    _shortcuts,
    _gallery,
    _speed,
    _notes,
    _configuration,
    _versions,
)
