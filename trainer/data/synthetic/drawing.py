"""Drawing of one chest phantom. Each finding changes the image in its own way, still visible at 64 pixels.

Lengths and positions are fractions of the image side, x to the right, y down; brightness is 0 to 1.

Shapes: H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from trainer.data.synthetic.exams import Exam, Purpose

Pixels = NDArray[np.float32]


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


def draw(exam: Exam, seed: int, side: int) -> NDArray[np.uint8]:
    """The image, [H, W]."""
    rng = np.random.default_rng((seed, Purpose.DRAWING, exam.index))
    chest = _anatomy(np.random.default_rng((seed, Purpose.SHAPE, exam.patient)))
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
