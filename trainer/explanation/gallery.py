"""Gallery of a report: the most confident errors of a model, each with its class activation map.

Shapes: N images, K findings, S pack side, P crop side.
"""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from trainer.data.augment import center_boxes, cut, normalise
from trainer.data.decode import BadImageError, why_not
from trainer.data.layouts import Source, read_labels
from trainer.data.locate import locate_images
from trainer.data.packs.open_prepared import checked_geometry, open_prepared
from trainer.data.packs.records import Geometry, to_gray_square
from trainer.data.public import public_name
from trainer.errors import InputError, listing
from trainer.evaluation import predictions
from trainer.evaluation.calibration import Calibrator
from trainer.evaluation.known_labels import binary
from trainer.evaluation.metrics import probability
from trainer.explanation.cam import class_activation_maps
from trainer.explanation.overlay import overlay
from trainer.explanation.placement import Placement
from trainer.formats import tables
from trainer.label_choices import LabelChoices
from trainer.layout import predictions_key
from trainer.limits import TEXT_BYTES
from trainer.models.load import load_model, split_by_image
from trainer.report.pictures import Picture
from trainer.storage import AbsentError, open_storage

SIDE: Final = 200
"""Side of each of the two pictures in pixels, as on a phone."""

MOST: Final = 28
"""Two for each of the 14 findings."""

_FINER: Final = 3
"""The map is drawn on this many pixels per pixel, so that its lines do not hide the image."""

_GAP: Final = 4
_QUALITY: Final = 80

Gray = NDArray[np.uint8]
Choice = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class Mistake:
    """An image with a wrong score of a finding."""

    row: int
    column: int
    """The finding whose map is shown."""
    kind: str


def wanted(choice: Choice, source: Source) -> tuple[bool, str]:
    """Whether a report shows images of this data set, and the reason in words.

    `auto` shows those of recognised public data sets: see `trainer.data.public`.
    """
    if choice != "auto":
        return choice == "on", f"by `--gallery {choice}`"
    name = public_name(source)
    if name is None:
        return (
            False,
            "the images and labels are not recognised as a whole public data set, and `--gallery on` was not given",
        )
    return True, f"the data set is public: {name}"


def mistakes(
    log_odds_NK: NDArray[np.floating], labels_NK: NDArray[np.floating], *, classes: bool, most: int = MOST
) -> list[Mistake]:
    """The most confident errors.

    For a single-label model: images of another class, most confident first. Otherwise for each finding the negative image with
    the highest score and the positive image with the lowest, unless even that one scores above all negative images. Images where a
    finding is unknown are no errors of it.
    """
    if classes:
        predicted_N, true_N = log_odds_NK.argmax(axis=1), labels_NK.argmax(axis=1)
        wrong = [int(row) for row in np.flatnonzero(predicted_N != true_N)]
        wrong.sort(key=lambda row: -float(log_odds_NK[row, predicted_N[row]]))
        return [Mistake(row, int(predicted_N[row]), "wrong class") for row in wrong[:most]]
    worst = []
    for column in range(log_odds_NK.shape[1]):
        scores_N, label_N = log_odds_NK[:, column], binary(labels_NK[:, column])
        positive_N, negative_N = label_N == 1, label_N == 0
        if not (positive_N.any() and negative_N.any()):
            continue
        highest = int(np.where(negative_N, scores_N, -np.inf).argmax())
        lowest = int(np.where(positive_N, scores_N, np.inf).argmin())
        if scores_N[highest] > scores_N[lowest]:
            worst += [
                Mistake(highest, column, "highest score without it"),
                Mistake(lowest, column, "lowest score with it"),
            ]
    return worst[:most]


def make(
    network: nn.Module,
    *,
    names: Sequence[str],
    log_odds_NK: NDArray[np.floating],
    labels_NK: NDArray[np.floating],
    findings: Sequence[str],
    classes: bool,
    record_of: Callable[[int], Gray],
    crop_px: int,
    calibrator: Calibrator | None = None,
    most: int = MOST,
) -> tuple[Picture, ...]:
    """Pictures of the worst errors. `record_of` returns the gray S x S record of the image at an index of `names`.

    `log_odds_NK` are uncalibrated; probabilities are shown calibrated where there is a `calibrator` for these findings. The network may be on any device, and is in eval mode afterwards; images are processed one at a time.
    """
    pictures = []
    shown_NK = probability(log_odds_NK if calibrator is None else calibrator.apply(log_odds_NK))
    for mistake in mistakes(log_odds_NK, labels_NK, classes=classes, most=most):
        pair = _pair(network, record_of(mistake.row), crop_px, mistake.column, classes=classes)
        pictures.append(
            Picture(
                image=names[mistake.row],
                finding=findings[mistake.column],
                kind=mistake.kind,
                truth=_truth(labels_NK[mistake.row], findings),
                probability=float(shown_NK[mistake.row, mistake.column]),
                calibrated=calibrator is not None,
                jpeg=_jpeg(pair),
            )
        )
    return tuple(pictures)


def of_run(run: str, record: Mapping[str, Any], *, data: str | None) -> tuple[Picture, ...]:
    """Pictures of a run's worst errors on its test images, or else its validation images, from its stored predictions.

    `record` is its run.json; `data` is the current place of the images, if that has changed.

    Raises: InputError where model, predictions, labels or images are missing or do not match; RemoteError.
    """
    source = _source(run, record, data)
    names, log_odds_NK = _predictions(run, source.table.findings)
    source = replace(source, table=source.table.without(set(source.table.images) - set(names)))
    row_of = {name: row for row, name in enumerate(source.table.images)}
    unknown = [name for name in names if name not in row_of]
    if unknown:
        raise InputError(
            f"cannot show errors of `{run}`: `{source.root}` lacks {len(unknown)} of {len(names)} evaluated images{listing(unknown)}",
            hint="set --data to the data set of the run",
        )
    rows_N = np.array([row_of[name] for name in names], np.int64)
    paths = [] if source.placement == "records" else locate_images(source)
    with tempfile.TemporaryDirectory() as cache:
        trained = load_model(run, cache=Path(cache))
    return make(
        trained.network,
        names=names,
        log_odds_NK=log_odds_NK,
        labels_NK=source.table.labels_NK[rows_N],
        findings=trained.findings,
        classes=trained.loss == "cross_entropy",
        record_of=_of_prepared_set(source, trained.geometry, rows_N)
        if source.placement == "records"
        else lambda position: _record(paths[rows_N[position]], trained.geometry),
        crop_px=trained.crop_px,
        calibrator=trained.calibrator,
    )


def _source(run: str, record: Mapping[str, Any], data: str | None) -> Source:
    config = record["config"] if isinstance(record.get("config"), dict) else {}
    place = data or str(config.get("data", ""))
    if not place or "://" in place:
        raise InputError(f"cannot show images of `{run}`: they are not in a local directory", hint="--data DIRECTORY")
    source = read_labels(
        Path(place),
        layout=config.get("layout", "auto"),
        split=config.get("split", "given"),
        val_list=config.get("val_list"),
        kept_split=split_by_image(open_storage(run)),
        choices=LabelChoices.from_document(config),
    )
    table, trained = source.table.used(), record.get("identity", {}).get("findings", [])
    return replace(source, table=table.with_findings(trained) if set(trained) < set(table.findings) else table)


def _predictions(run: str, findings: Sequence[str]) -> tuple[list[str], NDArray[np.float64]]:
    """Names and log-odds of the run's stored predictions for test images, or else for validation images."""
    storage = open_storage(run)
    for split in ("test", "val"):
        key = predictions_key(split)
        where = f"{storage.url.rstrip('/')}/{key}"
        try:
            table = tables.rows(storage.read(key, most_bytes=TEXT_BYTES))
            stored = predictions.of_rows(Path(where), table)
        except AbsentError:
            continue
        except ValueError as problem:
            raise InputError(f"cannot read `{where}`: {problem}", hint="download it again") from problem
        if stored.findings != tuple(findings):
            raise InputError(
                f"cannot show errors of `{run}`: its predictions have other findings than the labels",
                hint="set --data to the data set of the run",
            )
        probabilities_NK = np.clip(stored.probabilities_NK, 1e-7, 1 - 1e-7)  # 0 and 1 have no finite log-odds
        return list(stored.images), np.log(probabilities_NK) - np.log1p(-probabilities_NK)
    raise InputError(f"cannot show errors of `{run}`: it has no predictions", hint="wait for the end of the run")


def _of_prepared_set(source: Source, geometry: Geometry, rows_N: NDArray[np.int64]) -> Callable[[int], Gray]:
    """The record at each position of the rows. Raises: InputError where the set was prepared otherwise than the model needs."""
    checked_geometry(source.root, geometry)
    pack = open_prepared(source.root, source.table.images)

    def record(position: int) -> Gray:
        record_1SS: Gray = np.empty((1, geometry.side, geometry.side), np.uint8)
        pack.gather(rows_N[position : position + 1], record_1SS)
        record_SS: Gray = record_1SS[0]
        return record_SS

    return record


def _record(path: Path, geometry: Geometry) -> Gray:
    try:
        return to_gray_square(path, geometry)
    except (BadImageError, InputError, OSError, MemoryError) as problem:
        raise InputError(f"cannot show `{path.name}`: {why_not(problem)}", hint="replace the file") from problem


def _pair(network: nn.Module, record_SS: Gray, crop_px: int, column: int, *, classes: bool) -> Image.Image:
    """The model's input, next to the same image with the map of one finding."""
    on = next(network.parameters()).device
    x_N1SS = torch.from_numpy(np.array(record_SS))[None, None].to(on)
    seen_N1PP = cut(x_N1SS, center_boxes(1, record_SS.shape[-1], crop_px), crop_px)
    map_hw = class_activation_maps(network, normalise(seen_N1PP), [column], classes=classes)[0]
    gray = Image.fromarray(seen_N1PP[0, 0].cpu().numpy())
    side = _FINER * SIDE
    scale = crop_px / side
    whole = Placement(width=side, height=side, crop_px=crop_px, scale_x=scale, scale_y=scale, start_x=0, start_y=0)
    explained = overlay(gray.resize((side, side), Image.Resampling.BICUBIC), map_hw, whole, np.empty((0, 4)))
    pair = Image.new("RGB", (2 * SIDE + _GAP, SIDE), "white")
    pair.paste(gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (0, 0))
    pair.paste(explained.reduce(_FINER), (SIDE + _GAP, 0))
    return pair


def _truth(labels_K: NDArray[np.floating], findings: Sequence[str]) -> str:
    """The image's labels in words; unknown ones are counted, so that no finding of the image seems to be excluded."""
    present = [finding for finding, label in zip(findings, binary(labels_K).tolist(), strict=True) if label == 1]
    words = f"labelled {', '.join(present)}" if present else "labelled without a finding"
    unknown = int(np.isnan(labels_K).sum())
    return f"{words}, {unknown} unknown" if unknown else words


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, format="JPEG", quality=_QUALITY)
    return out.getvalue()
