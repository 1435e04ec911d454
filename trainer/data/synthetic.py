"""Synthetic data set: chest phantoms in NIH's layout, for trying the programs without patient data.

Each finding changes the image in its own way, still visible at 64 pixels. The phantoms have no medical value. Lengths
and positions are fractions of the image side, x to the right, y down; brightness is 0 to 1.

Shapes: H x W pixels, N images.
"""

import csv
import errno
import fcntl
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainer.data.labels import FINDINGS
from trainer.errors import InputError
from trainer.formats import tables
from trainer.limits import parsed_json

MIN_IMAGES: Final = 30
"""Fewer cannot fill three patient-wise splits."""

SIDES: Final = range(32, 4096 + 1)
"""Pixels of a side: with fewer, findings are invisible, and no X-ray has more."""

SEEDS: Final = range(2**63)

RGBA_EVERY: Final = 23
"""One image in this many is saved as RGBA. Source: the release has some, 6 in one sample of 621."""

_HEALTHY = 0.3
"""Share of images without findings by design; chance adds a few."""

_PREVALENCE = dict(
    zip(FINDINGS, (0.18, 0.14, 0.17, 0.18, 0.15, 0.16, 0.15, 0.14, 0.15, 0.13, 0.13, 0.14, 0.14, 0.12), strict=True)
)
"""Share of images with each finding: common ones stay common, but rare ones also occur in a small data set."""

_IMAGES_PER_PATIENT = (0.35, 0.25, 0.20, 0.12, 0.08)
"""Probability of 1, 2, 3, 4 and 5 images."""

_TEST_EVERY = 5
"""Every fifth patient is in test."""

_PATIENT, _SHAPE, _LABELS, _DRAWING = range(4)
"""Purpose of a random generator: part of its seed, so that generators never share numbers."""

_COLUMNS = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
"""NIH's header: two names contain a comma, so it splits into as many columns as the rows have."""

_ENTRIES = "Data_Entry_2017.csv"
_MARK = "phantoms.json"
"""Records how the data set was generated, so that it can be recognised as synthetic."""

_DRAWN: Final = re.compile(
    rf"images/[0-9]{{8}}_[0-9]{{3}}\.png|train_val_list\.txt|test_list\.txt|{re.escape(_ENTRIES)}|{re.escape(_MARK)}"
)
"""Every file of such a data set."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class _Exam:
    """One image of one patient."""

    index: int
    patient: int
    follow_up: int
    findings: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.patient + 1:08d}_{self.follow_up:03d}.png"

    @property
    def in_test(self) -> bool:
        return self.patient % _TEST_EVERY == _TEST_EVERY - 1


@dataclass
class _Chest:
    """The anatomy of one patient, as changed by the findings of one image."""

    middle: float
    lung_dx: float
    lung_width: float
    lung_top: float
    base: float
    """Height of the diaphragm."""
    dome: float
    """How much deeper the lung reaches at its edges than in its middle."""
    heart_width: float
    heart_height: float
    rib_spacing: float
    air: float
    """Brightness of the lungs."""


@dataclass
class _Picture:
    """One image being drawn."""

    chest: _Chest
    rng: np.random.Generator
    x_HW: Pixels
    y_HW: Pixels
    value_HW: Pixels
    lungs: tuple[Pixels, Pixels]
    """Lung fraction of each pixel: left in the image, right in the image."""

    def pick_lung(self) -> tuple[int, Pixels]:
        """-1 or 1 for left or right in the image, and that lung."""
        side = int(self.rng.integers(2))
        return 2 * side - 1, self.lungs[side]

    def lung_middle(self, side: int) -> float:
        return self.chest.middle + side * self.chest.lung_dx

    def blob(self, x: float, y: float, width: float, height: float) -> Pixels:
        """1 in the middle of an ellipse, 0 at its border and beyond."""
        ellipse_HW: Pixels = np.maximum(1 - ((self.x_HW - x) / width) ** 2 - ((self.y_HW - y) / height) ** 2, 0)
        return ellipse_HW

    def disc(self, x: float, y: float, radius: float) -> Pixels:
        """1 in the disc, with a border of about a pixel."""
        disc_HW: Pixels = np.minimum(self.blob(x, y, radius, radius) * 5, 1)
        return disc_HW

    def paint(self, mask_HW: Pixels, brightness: float) -> None:
        """Blend in a brightness by the mask."""
        self.value_HW += (np.float32(brightness) - self.value_HW) * mask_HW

    def strokes(self, lines: list[list[tuple[float, float]]], width: float) -> Pixels:
        """Blurred lines of this width through these points."""
        side = len(self.x_HW)
        layer = Image.new("L", (side, side))
        draw = ImageDraw.Draw(layer)
        for line in lines:
            draw.line([(x * side, y * side) for x, y in line], fill=255, width=max(1, round(width * side)))
        soft_HW = np.asarray(layer.filter(ImageFilter.GaussianBlur(side / 256)), dtype=np.float32)
        return np.divide(soft_HW, 255, dtype=np.float32)

    def clouds(self, grain: float) -> Pixels:
        """Smooth noise, about -1 to 1, with clouds of this size."""
        side = len(self.x_HW)
        few = max(2, round(1 / grain))
        coarse = Image.fromarray(self.rng.normal(0, 0.6, (few, few)).astype(np.float32))
        return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)


def write_phantoms(
    out: Path, *, images: int, seed: int = 0, side: int = 256, progress: Callable[[int], None] | None = None
) -> None:
    """Write a data set of synthetic images to a new or empty directory, in the `nih` layout; about a fifth is for testing.

    The same seed gives the same files; an image depends on seed and position only, so a larger set begins like a
    smaller one. `progress` is called after each image. The directory is filled atomically at the end.

    Raises: InputError for fewer than 30 images, a side or seed out of range, or a directory that is not empty or cannot
    be written.
    """
    _check_numbers(images, seed, side)
    exams = [exam for exam, _ in zip(_exams(seed), range(images), strict=False)]
    with _complete_or_nothing(out) as draft:
        (draft / "images").mkdir()
        for exam in exams:
            rgba = exam.index % RGBA_EVERY == RGBA_EVERY - 1
            _save(_draw(exam, seed, side), draft / "images" / exam.name, rgba=rgba)
            if progress is not None:
                progress(1)
        for file, in_test in (("train_val_list.txt", False), ("test_list.txt", True)):
            names = [exam.name for exam in exams if exam.in_test == in_test]
            (draft / file).write_text("\n".join(names), encoding="utf-8")  # no trailing newline, as in NIH's own lists
        (draft / _ENTRIES).write_text(_entries(exams, seed, side), encoding="utf-8", newline="")
        (draft / _MARK).write_text(json.dumps({"images": images, "seed": seed, "side": side}) + "\n", encoding="utf-8")


def phantoms(images: int, *, seed: int = 0, side: int = 256) -> NDArray[np.uint8]:
    """The first of the images that `write_phantoms` draws, [N, H, W]."""
    exams = zip(_exams(seed), range(images), strict=False)
    return np.stack([_draw(exam, seed, side) for exam, _ in exams])


def _check_numbers(images: int, seed: int, side: int) -> None:
    if images < MIN_IMAGES:
        raise InputError(
            f"cannot draw a data set: at least {MIN_IMAGES} images are needed, got {images} (from `--images`)",
            hint="--images 600 is enough for a model to learn something",
        )
    if side not in SIDES:
        raise InputError(
            f"cannot draw a data set: a side must have {SIDES[0]} to {SIDES[-1]} pixels, got {side} (from `--side`)",
            hint="--side 256",
        )
    if seed not in SEEDS:
        raise InputError(
            f"cannot draw a data set: the seed must be at least 0 and below 2**63, got {seed} (from `--seed`)",
            hint="--seed 0",
        )


@contextmanager
def _complete_or_nothing(out: Path) -> Iterator[Path]:
    """A directory to write to; its content is moved to `out` at the end, or removed on failure."""
    try:
        for folder in (out.parent, out):
            _remove_drafts(folder, out.name)
        exists = _is_empty(out)
        draft = (out if exists else out.parent) / f".{out.name}-{secrets.token_hex(4)}.partial"
        draft.mkdir(parents=True)
        try:
            with _locked(draft):
                yield draft
                _move_into_place(draft, out, into=exists)
        except BaseException:  # also Ctrl-C
            shutil.rmtree(draft, ignore_errors=True)
            raise
    except OSError as problem:
        raise InputError(
            f"cannot write to `{out}`: {problem.strerror or problem} (from `--out`)",
            hint="choose an --out that you may write to, on a disk with enough space",
        ) from problem


@contextmanager
def _locked(draft: Path) -> Iterator[None]:
    """Lock the folder for the block, as a sign that its writer lives. Raises: BlockingIOError when another process holds it."""
    descriptor = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_drafts(folder: Path, name: str) -> None:
    """Remove drafts of this data set that killed processes have left, unless they contain other files."""
    pattern = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{8}}\.partial")
    for draft in [path for path in _entries_of(folder) if pattern.fullmatch(path.name)]:
        with suppress(OSError), _locked(draft):  # otherwise it is a link, or its writer lives
            for path in [*_entries_of(draft / "images"), *_entries_of(draft)]:
                if _DRAWN.fullmatch(path.relative_to(draft).as_posix()):
                    path.unlink()
            for inner in (draft / "images", draft):
                if inner.exists():
                    inner.rmdir()


def _entries_of(folder: Path) -> list[Path]:
    if folder.is_symlink() and folder.name == "images":
        return []
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_empty(out: Path) -> bool:
    """Whether `out` exists; if so, it must be an empty directory."""
    try:
        occupant = next(out.iterdir(), None)
    except FileNotFoundError:
        return False
    if occupant is not None:
        raise InputError(
            f"cannot write a data set: the directory must be new or empty, got `{out}` with `{occupant.name}` (from `--out`)",
            hint="choose another directory; nothing is overwritten",
        )
    return True


def _move_into_place(draft: Path, out: Path, *, into: bool) -> None:
    """Rename the draft; if `out` exists, which may be a mount or a current directory, move its entries."""
    if not into:
        draft.rename(out)
        return
    for entry in sorted(draft.iterdir()):
        if os.path.lexists(out / entry.name):
            raise FileExistsError(errno.EEXIST, f"`{entry.name}` was created meanwhile")
        entry.rename(out / entry.name)
    draft.rmdir()


def _exams(seed: int) -> Iterator[_Exam]:
    """Endless images, patient after patient."""
    index = patient = 0
    while True:
        count = 1 + np.random.default_rng((seed, _PATIENT, patient)).choice(5, p=_IMAGES_PER_PATIENT)
        for follow_up in range(count):
            exam = _Exam(index, patient, follow_up)
            yield replace(exam, findings=_findings(exam, seed))
            index += 1
        patient += 1


def _findings(exam: _Exam, seed: int) -> tuple[str, ...]:
    """Independently drawn findings; the first 14 patients of test also have one finding each, so that small sets have all."""
    rng = np.random.default_rng((seed, _LABELS, exam.index))
    sick = rng.random() >= _HEALTHY
    chance = rng.random(len(FINDINGS))
    findings = {
        name
        for name, drawn in zip(FINDINGS, chance, strict=True)
        if sick and drawn < _PREVALENCE[name] / (1 - _HEALTHY)
    }
    nth_test = exam.patient // _TEST_EVERY
    if exam.in_test and exam.follow_up == 0 and nth_test < len(FINDINGS):
        findings.add(FINDINGS[nth_test])
    return tuple(name for name in FINDINGS if name in findings)


def has_mark(folder: Path) -> bool:
    """Whether the data set in this directory was generated by this program, although it may have been changed since."""
    return (folder / _MARK).exists()


def has_drawn(folder: Path) -> bool:
    """Whether this program generated the data set in this directory: its table must equal the one of the recorded seed."""
    try:
        mark = parsed_json(tables.content_of(folder / _MARK))
        images, seed, side = (int(mark[key]) for key in ("images", "seed", "side"))
        _check_numbers(images, seed, side)
        table = tables.content_of(folder / _ENTRIES).decode()
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return False
    if table.count("\n") != images + 1:
        return False
    return table == _entries(list(islice(_exams(seed), images)), seed, side)


def _entries(exams: list[_Exam], seed: int, side: int) -> str:
    """NIH's table of these images."""
    file = io.StringIO(newline="")
    file.write(_COLUMNS + "\n")
    writer = csv.writer(file, lineterminator="\n")
    for exam in exams:
        rng = np.random.default_rng((seed, _PATIENT, exam.patient, 1))
        age, sex = int(rng.integers(18, 90)) + exam.follow_up, "MF"[rng.integers(2)]
        view = "AP" if "Edema" in exam.findings else "PA"
        labels = "|".join(exam.findings) or "No Finding"
        writer.writerow([exam.name, labels, exam.follow_up, exam.patient + 1, age, sex, view, side, side, 0.143, 0.143])
    return file.getvalue()


def _save(pixels_HW: NDArray[np.uint8], path: Path, *, rgba: bool) -> None:
    picture = Image.fromarray(pixels_HW)
    # fastest compression: most of the image is noise, which does not compress
    (picture.convert("RGBA") if rgba else picture).save(path, compress_level=1)


def _draw(exam: _Exam, seed: int, side: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng((seed, _DRAWING, exam.index))
    chest = _anatomy(np.random.default_rng((seed, _SHAPE, exam.patient)))
    chest.middle += float(rng.uniform(-0.01, 0.01))
    chest.base += float(rng.uniform(-0.012, 0.012))
    for name, reshape in _RESHAPE.items():
        if name in exam.findings:
            reshape(chest, rng)
    picture = _healthy(chest, rng, side)
    for name, overlay in _OVERLAY.items():
        if name in exam.findings:
            overlay(picture)
    return _expose(picture.value_HW, rng)


def _anatomy(rng: np.random.Generator) -> _Chest:
    return _Chest(
        middle=float(rng.uniform(0.485, 0.515)),
        lung_dx=float(rng.uniform(0.185, 0.205)),
        lung_width=float(rng.uniform(0.135, 0.155)),
        lung_top=float(rng.uniform(0.11, 0.14)),
        base=float(rng.uniform(0.69, 0.73)),
        dome=float(rng.uniform(0.09, 0.12)),
        heart_width=float(rng.uniform(0.105, 0.125)),
        heart_height=float(rng.uniform(0.13, 0.15)),
        rib_spacing=float(rng.uniform(0.085, 0.1)),
        air=float(rng.uniform(0.2, 0.25)),
    )


@lru_cache(maxsize=2)
def _grid(side: int) -> tuple[Pixels, Pixels]:
    steps = ((np.arange(side) + 0.5) / side).astype(np.float32)
    x_HW, y_HW = np.meshgrid(steps, steps)
    return x_HW, y_HW


def _healthy(chest: _Chest, rng: np.random.Generator, side: int) -> _Picture:
    x_HW, y_HW = _grid(side)
    picture = _Picture(chest, rng, x_HW, y_HW, np.full_like(x_HW, 0.04), (x_HW, x_HW))
    across_HW = np.abs(x_HW - chest.middle)
    outline_H = np.interp(y_HW[:, 0], [0, 0.05, 0.2, 0.5, 1], [0.1, 0.11, 0.4, 0.43, 0.45]).astype(np.float32)
    body_HW = np.clip((outline_H[:, None] - across_HW) * 30, 0, 1)
    picture.paint(body_HW, 0.48)
    picture.lungs = (_lung(picture, -1), _lung(picture, 1))
    for lung_HW in picture.lungs:
        picture.paint(lung_HW, chest.air)
    ribs_HW = np.cos((y_HW - 1.3 * (across_HW - 0.13) ** 2) * np.float32(2 * np.pi / chest.rib_spacing))
    picture.value_HW += 0.07 * np.clip(ribs_HW * 3 - 1, 0, 1) * body_HW * np.clip(9 - 10 * y_HW, 0, 1)
    spine_HW = np.clip((0.05 - across_HW) * 60, 0, 1)
    picture.paint(spine_HW * (0.7 + 0.3 * np.cos(y_HW * 120)), 0.66)
    heart = (chest.middle + 0.35 * chest.heart_width, chest.base - 0.07, chest.heart_width, chest.heart_height)
    heart_HW = np.clip(picture.blob(*heart) * 6, 0, 1)
    vessels_HW = np.clip(picture.blob(chest.middle + 0.03, 0.35, 0.07, 0.22) * 4, 0, 1)
    picture.paint(heart_HW, 0.68)
    picture.paint(vessels_HW, 0.6)
    open_HW = (1 - heart_HW) * (1 - vessels_HW)
    picture.lungs = (picture.lungs[0] * open_HW, picture.lungs[1] * open_HW)  # without what shadows hide
    return picture


def _lung(picture: _Picture, side: int) -> Pixels:
    chest = picture.chest
    deep = chest.base + chest.dome
    along_HW = (picture.y_HW - chest.lung_top) / (deep - chest.lung_top)
    width_HW = chest.lung_width * (0.7 + 0.4 * along_HW)
    out_HW = (picture.x_HW - picture.lung_middle(side)) / width_HW
    inside_HW = np.clip((1 - out_HW**2 - (1 - np.clip(along_HW * 2.5, 0, 1)) ** 2) * 6, 0, 1)
    floor_HW = chest.base + chest.dome * out_HW**2 + (0.02 if side > 0 else 0)
    lung_HW: Pixels = inside_HW * np.clip((floor_HW - picture.y_HW) * 60, 0, 1) * (along_HW > 0)
    return lung_HW


def _expose(value_HW: Pixels, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Exposure: contrast, brightness and noise."""
    value_HW = np.clip(value_HW, 0, 1) ** np.float32(rng.uniform(0.85, 1.15)) * np.float32(rng.uniform(0.92, 1.08))
    value_HW = value_HW + np.float32(rng.uniform(-0.02, 0.03))
    value_HW += 0.025 * rng.standard_normal(value_HW.shape, dtype=np.float32)
    return np.clip(value_HW * 255, 0, 255).astype(np.uint8)


def _cardiomegaly(chest: _Chest, rng: np.random.Generator) -> None:
    """The heart is wider than half of the chest."""
    chest.heart_width *= float(rng.uniform(1.75, 2.0))
    chest.heart_height *= 1.15


def _emphysema(chest: _Chest, rng: np.random.Generator) -> None:
    """Too much air: dark, long lungs on a flat diaphragm, and a narrow heart."""
    chest.air *= float(rng.uniform(0.35, 0.5))
    chest.base += float(rng.uniform(0.09, 0.12))
    chest.dome *= 0.15
    chest.heart_width *= 0.85


def _effusion(picture: _Picture) -> None:
    """Fluid at the bottom of a lung, higher at the chest wall than in the middle."""
    side, lung_HW = picture.pick_lung()
    level = picture.chest.base - picture.rng.uniform(0.06, 0.14)
    outward_HW = side * (picture.x_HW - picture.lung_middle(side)) / picture.chest.lung_width
    surface_HW = level - 0.06 * np.clip(outward_HW + 0.3, 0, 2) ** 2
    picture.paint(lung_HW * np.clip((picture.y_HW - surface_HW) * 40, 0, 1), 0.8)


def _pneumothorax(picture: _Picture) -> None:
    """Free air around the top and outside of a collapsed lung: black, with a fine line at the lung's edge."""
    side, lung_HW = picture.pick_lung()
    chest = picture.chest
    shrink = picture.rng.uniform(0.6, 0.7)
    x, y = picture.lung_middle(side) - side * 0.06, chest.base + 0.02
    rest_HW = (((picture.x_HW - x) / (chest.lung_width * shrink * 1.25)) ** 2) + (((picture.y_HW - y) / 0.42) ** 2)
    picture.paint(lung_HW * np.clip((rest_HW - 1) * 12, 0, 1), 0.02)
    picture.paint(lung_HW * np.clip(1 - np.abs(rest_HW - 1) * 12, 0, 1), 0.6)


def _mass(picture: _Picture) -> None:
    """One large, sharp disc."""
    side, _ = picture.pick_lung()
    x = picture.lung_middle(side) + picture.rng.uniform(-0.04, 0.04)
    picture.paint(picture.disc(x, picture.rng.uniform(0.3, 0.55), picture.rng.uniform(0.075, 0.095)), 0.85)


def _nodule(picture: _Picture) -> None:
    """Three to five small, sharp discs."""
    for _ in range(picture.rng.integers(3, 6)):
        side, _lung_HW = picture.pick_lung()
        x = picture.lung_middle(side) + picture.rng.uniform(-0.08, 0.08)
        picture.paint(picture.disc(x, picture.rng.uniform(0.22, 0.66), picture.rng.uniform(0.026, 0.032)), 0.95)


def _atelectasis(picture: _Picture) -> None:
    """Plates of collapsed lung: thick level bands in the lower half of one lung."""
    side, lung_HW = picture.pick_lung()
    middle, reach = picture.lung_middle(side), picture.chest.lung_width
    lines = []
    for nth in range(3):
        y = picture.chest.base - 0.05 - 0.075 * nth + picture.rng.uniform(-0.01, 0.01)
        lines.append([(middle - reach, y), (middle + reach, y + picture.rng.uniform(-0.03, 0.03))])
    picture.paint(lung_HW * picture.strokes(lines, 0.024), 0.8)


def _infiltration(picture: _Picture) -> None:
    """Patches without borders all over both lungs."""
    patches_HW = np.clip(picture.clouds(0.07) * 1.6, 0, 1)
    for lung_HW in picture.lungs:
        picture.paint(lung_HW * patches_HW * 0.75, 0.6)


def _pneumonia(picture: _Picture) -> None:
    """One large, soft, mottled opacity, low in one lung."""
    side, lung_HW = picture.pick_lung()
    x = picture.lung_middle(side) + side * 0.03
    blob_HW = picture.blob(x, picture.rng.uniform(0.56, 0.62), 0.17, 0.17)
    picture.paint(lung_HW * np.clip(blob_HW * (1.5 + picture.clouds(0.04)), 0, 1), 0.72)


def _consolidation(picture: _Picture) -> None:
    """A whole upper lobe, evenly bright down to a straight fissure, with air-filled bronchi."""
    side, lung_HW = picture.pick_lung()
    fissure = picture.rng.uniform(0.36, 0.42)
    picture.paint(lung_HW * np.clip((fissure - picture.y_HW) * 80, 0, 1) * 0.9, 0.7)
    root = (picture.lung_middle(side) - side * 0.1, fissure - 0.01)
    tips = [(root[0] + side * across, root[1] - up) for across, up in ((0.07, 0.19), (0.13, 0.14), (0.18, 0.06))]
    picture.paint(lung_HW * picture.strokes([[root, tip] for tip in tips], 0.014), 0.3)


def _edema(picture: _Picture) -> None:
    """Haze on both sides of the heart, in a bat-wing shape."""
    for side, lung_HW in zip((-1, 1), picture.lungs, strict=True):
        wing_HW = picture.blob(picture.lung_middle(side) - side * 0.07, 0.46, 0.16, 0.24)
        picture.paint(lung_HW * np.clip(wing_HW * 1.5, 0, 0.85), 0.7)


def _fibrosis(picture: _Picture) -> None:
    """A coarse net in the lower, outer part of both lungs."""
    phase = picture.rng.uniform(0, 6)
    u_HW, v_HW = picture.x_HW + picture.y_HW, picture.x_HW - picture.y_HW
    net_HW = np.maximum(np.cos(u_HW * 85 + phase), np.cos(v_HW * 85 + phase))
    low_HW = np.clip((picture.y_HW - 0.45) * 8, 0, 1)
    for lung_HW in picture.lungs:
        picture.paint(lung_HW * low_HW * np.clip(net_HW * 4 - 2, 0, 1), 0.7)


def _pleural_thickening(picture: _Picture) -> None:
    """A bright, uneven rind between one lung and the chest wall, also over its top."""
    side, lung_HW = picture.pick_lung()
    chest = picture.chest
    along_HW = (picture.y_HW - chest.lung_top) / (chest.base + chest.dome - chest.lung_top)
    outward_HW = side * (picture.x_HW - picture.lung_middle(side)) / (chest.lung_width * (0.7 + 0.4 * along_HW))
    wall_HW = np.clip((outward_HW - 0.68 + 0.1 * np.cos(picture.y_HW * 55)) * 12, 0, 1)
    cap_HW = np.clip((0.13 - along_HW) * 25, 0, 1)
    picture.paint(lung_HW * np.maximum(wall_HW, cap_HW), 0.88)


def _hernia(picture: _Picture) -> None:
    """Part of the stomach behind the heart: a bubble of gas with a bright wall, half full."""
    radius = picture.rng.uniform(0.075, 0.09)
    x, y = picture.chest.middle + picture.rng.uniform(0, 0.04), picture.chest.base - 0.05
    picture.paint(picture.disc(x, y, radius), 0.95)
    gas_HW = picture.disc(x, y, radius * 0.85) * (picture.y_HW < y + 0.3 * radius)
    picture.paint(gas_HW, 0.05)


_RESHAPE: Final[dict[str, Callable[[_Chest, np.random.Generator], None]]] = {
    "Cardiomegaly": _cardiomegaly,
    "Emphysema": _emphysema,
}
"""Findings that change the anatomy itself."""

_OVERLAY: Final[dict[str, Callable[[_Picture], None]]] = {
    "Edema": _edema,
    "Infiltration": _infiltration,
    "Pneumonia": _pneumonia,
    "Consolidation": _consolidation,
    "Atelectasis": _atelectasis,
    "Fibrosis": _fibrosis,
    "Effusion": _effusion,
    "Pneumothorax": _pneumothorax,
    "Pleural_Thickening": _pleural_thickening,
    "Mass": _mass,
    "Nodule": _nodule,
    "Hernia": _hernia,
}
"""Findings drawn over it, soft ones first."""
