"""Views of packed images for the model, made on the device: rotate, crop, mirror, repeat to three channels, normalise.

Every draw is a function of (seed, epoch, sample), so a resumed run, or one with another number of workers, sees the
same pictures. All shapes are fixed and all work is gathers, matrix products and elementwise operations, which suits
graph compilers. Shapes: N images, S pack side, P crop side, C channels.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
"""Source: torchvision's ImageNet weights were trained with these."""

AREA: Final = (0.08, 1.0)
RATIO: Final = (3 / 4, 4 / 3)
"""Area and aspect ratio of a random resized crop. Source: torchvision's RandomResizedCrop."""

_TOP, _LEFT, _MIRROR, _AREA, _RATIO, _ANGLE = range(6)
"""Index of each draw of a sample."""

Crop = Literal["resized", "random", "center"]

Tta = Literal["none", "flip", "ten_crop"]
"""Test-time augmentation: the views over which predictions are averaged."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Boxes:
    """Crop of each image in pixels, and whether it is mirrored."""

    top_N: Floats
    left_N: Floats
    height_N: Floats
    width_N: Floats
    mirror_N: NDArray[np.bool_]


def uniform(seed: int, epoch: int, samples_N: NDArray[np.int64], draw: int) -> Floats:
    """Numbers in [0, 1), each a function of (seed, epoch, sample, draw) only, shape N.

    Source: SplitMix64's mixing function (Steele, Lea, Flood 2014), applied once for each of the four.
    """
    state = np.zeros(len(samples_N), np.uint64)
    with np.errstate(over="ignore"):
        for part in (np.uint64(seed), np.uint64(epoch), samples_N.astype(np.uint64), np.uint64(draw)):
            state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return np.asarray((state >> np.uint64(11)) / 2**53, np.float64)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How the images of a training vary between epochs."""

    seed: int
    crop: Crop
    crop_px: int
    flip: bool
    rotate: float
    """Largest angle either way, in degrees."""

    def draws(self, samples_N: NDArray[np.int64], epoch: int, side: int) -> NDArray[np.float32]:
        """Numbers for `view`, of any number of samples, float32 [7, N]: the crop's top, left, height and width, whether it is mirrored,
        and cosine and sine of the angle.
        """
        angles_N = angles(self.seed, epoch, samples_N, self.rotate)
        return np.concatenate([_numbers(self._boxes(samples_N, epoch, side)), _turn(angles_N)])

    def view(self, x_N1SS: Tensor, draws_7N: Tensor) -> Tensor:
        """Training view with these draws on the device, normalised float32 [N, 3, P, P]; rotated before the crop."""
        if self.rotate > 0:
            x_N1SS = _turned(x_N1SS, draws_7N[5:])
        crop = _cut_resized if self.crop == "resized" else _cut
        return normalise(crop(x_N1SS, draws_7N[:5], self.crop_px))

    def _boxes(self, samples_N: NDArray[np.int64], epoch: int, side: int) -> Boxes:
        if self.crop == "resized":
            boxes = resized_boxes(self.seed, epoch, samples_N, side)
        elif self.crop == "random":
            boxes = random_boxes(self.seed, epoch, samples_N, side, self.crop_px)
        else:
            boxes = center_boxes(len(samples_N), side, self.crop_px)
        if self.flip:
            boxes = replace(boxes, mirror_N=uniform(self.seed, epoch, samples_N, _MIRROR) < 0.5)
        return boxes


def training_view(x_N1SS: Tensor, samples_N: NDArray[np.int64], augmentation: Augmentation, epoch: int) -> Tensor:
    """Training view of this epoch, normalised float32 [N, 3, P, P]."""
    draws_7N = torch.from_numpy(augmentation.draws(samples_N, epoch, x_N1SS.shape[-1]))
    return augmentation.view(x_N1SS, draws_7N.to(x_N1SS.device, non_blocking=True))


def evaluation_view(x_N1SS: Tensor, crop_px: int) -> Tensor:
    """The centre crop, normalised float32 [N, 3, P, P]."""
    return normalise(cut(x_N1SS, center_boxes(len(x_N1SS), x_N1SS.shape[-1], crop_px), crop_px))


def evaluation_views(x_N1SS: Tensor, crop_px: int, tta: Tta) -> list[Tensor]:
    """Views over which predictions are averaged, each normalised float32 [N, 3, P, P]; the first of `none` and `flip`
    is `evaluation_view`.

    `flip` adds the mirrored centre; `ten_crop` is four corners and the centre of the image, then of its mirror image.

    Source: torchvision's ten_crop for the order.
    """
    if tta == "ten_crop":
        return [normalise(part) for image in (x_N1SS, x_N1SS.flip(-1)) for part in _five_crops(image, crop_px)]
    view = evaluation_view(x_N1SS, crop_px)
    return [view] if tta == "none" else [view, view.flip(-1)]


def _five_crops(x_N1SS: Tensor, crop_px: int) -> list[Tensor]:
    """Four corners, row by row, and the centre, uint8 [N, 1, P, P]; no copies."""
    last = x_N1SS.shape[-1] - crop_px
    centre = round(last / 2)
    starts = [(0, 0), (0, last), (last, 0), (last, last), (centre, centre)]
    return [x_N1SS[..., top : top + crop_px, left : left + crop_px] for top, left in starts]


def angles(seed: int, epoch: int, samples_N: NDArray[np.int64], rotate: float) -> Floats:
    """A random angle for each sample, in degrees, uniform in ±rotate."""
    return (2 * uniform(seed, epoch, samples_N, _ANGLE) - 1) * rotate


def turned(x_N1SS: Tensor, degrees_N: Floats) -> Tensor:
    """Images rotated anticlockwise about their centres, bilinear, black outside, float32 [N, 1, S, S] in 0..255."""
    return _turned(x_N1SS, torch.from_numpy(_turn(degrees_N)).to(x_N1SS.device, non_blocking=True))


def _turn(degrees_N: Floats) -> NDArray[np.float32]:
    """Cosine and sine, float32 [2, N]."""
    radians_N = np.radians(degrees_N)
    return np.stack([np.cos(radians_N), np.sin(radians_N)]).astype(np.float32)


def _turned(x_N1SS: Tensor, turn_2N: Tensor) -> Tensor:
    """As `turned`, by angles with these cosines and sines.

    With a border of one black pixel, every source pixel exists, so that one index and four gathers suffice.

    Source: torchvision's rotate: direction, centre between the middle pixels, zeros outside.
    """
    count, side = len(x_N1SS), x_N1SS.shape[-1]
    padded_NQ = pad(x_N1SS[:, 0], (1, 1, 1, 1)).flatten(1)
    cos_N11, sin_N11 = turn_2N[:, :, None, None]
    from_centre_S = torch.arange(side, device=x_N1SS.device) - (side - 1) / 2
    across_1S, down_S1 = from_centre_S[None, :], from_centre_S[:, None]
    left_NSS, right_share_NSS = _neighbour(cos_N11 * across_1S - sin_N11 * down_S1, side)
    top_NSS, below_share_NSS = _neighbour(sin_N11 * across_1S + cos_N11 * down_S1, side)
    width = side + 2
    first_NQ = (top_NSS * width + left_NSS).flatten(1)
    length = width * width - width - 1  # up to the last pixel with neighbours to the right and below

    def pixels(shift: int) -> Tensor:
        return padded_NQ[:, shift : shift + length].gather(1, first_NQ).view(count, side, side).float()

    above_NSS = torch.lerp(pixels(0), pixels(1), right_share_NSS)
    below_NSS = torch.lerp(pixels(width), pixels(width + 1), right_share_NSS)
    return torch.lerp(above_NSS, below_NSS, below_share_NSS)[:, None]


def _neighbour(from_centre_NSS: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """For positions along one axis: the pixel before each, numbered in the padded image, and the weight of the next one."""
    place_NSS = (from_centre_NSS + (side + 1) / 2).clamp(0, side + 1)
    pixel_NSS = place_NSS.floor().clamp(max=side)
    return pixel_NSS.long(), place_NSS - pixel_NSS


def center_boxes(count: int, side: int, crop_px: int) -> Boxes:
    """The centre of every image, as torchvision's CenterCrop."""
    start_N = np.full(count, float(round((side - crop_px) / 2)))
    size_N = np.full(count, float(crop_px))
    return Boxes(start_N, start_N, size_N, size_N, np.zeros(count, np.bool_))


def random_boxes(seed: int, epoch: int, samples_N: NDArray[np.int64], side: int, crop_px: int) -> Boxes:
    """A random position for each sample, all equally likely."""
    places = side - crop_px + 1
    top_N = np.floor(uniform(seed, epoch, samples_N, _TOP) * places)
    left_N = np.floor(uniform(seed, epoch, samples_N, _LEFT) * places)
    size_N = np.full(len(samples_N), float(crop_px))
    return Boxes(top_N, left_N, size_N, size_N, np.zeros(len(samples_N), np.bool_))


def resized_boxes(seed: int, epoch: int, samples_N: NDArray[np.int64], side: int) -> Boxes:
    """A random crop for each sample, by area and aspect ratio.

    Differs: where torchvision draws up to ten times until a crop fits, this one is clipped to the image.
    """
    area_N = (AREA[0] + uniform(seed, epoch, samples_N, _AREA) * (AREA[1] - AREA[0])) * side**2
    low, high = np.log(RATIO[0]), np.log(RATIO[1])
    ratio_N = np.exp(low + uniform(seed, epoch, samples_N, _RATIO) * (high - low))
    width_N = np.clip(np.round(np.sqrt(area_N * ratio_N)), 1, side)
    height_N = np.clip(np.round(np.sqrt(area_N / ratio_N)), 1, side)
    top_N = np.floor(uniform(seed, epoch, samples_N, _TOP) * (side - height_N + 1))
    left_N = np.floor(uniform(seed, epoch, samples_N, _LEFT) * (side - width_N + 1))
    return Boxes(top_N, left_N, height_N, width_N, np.zeros(len(samples_N), np.bool_))


def cut(x_N1SS: Tensor, boxes: Boxes, crop_px: int) -> Tensor:
    """Crops of exactly crop_px pixels, [N, 1, P, P] of the images' type; the boxes must have that size."""
    return _cut(x_N1SS, _on_device(boxes, x_N1SS.device), crop_px)


def _cut(x_N1SS: Tensor, boxes_5N: Tensor, crop_px: int) -> Tensor:
    offsets_P = torch.arange(crop_px, device=x_N1SS.device)
    rows_NP = boxes_5N[0].long()[:, None] + offsets_P
    columns_NP = boxes_5N[1].long()[:, None] + offsets_P
    columns_NP = torch.where(boxes_5N[4].bool()[:, None], columns_NP.flip(1), columns_NP)
    images_N = torch.arange(len(x_N1SS), device=x_N1SS.device)[:, None, None]
    return x_N1SS[:, 0][images_N, rows_NP[:, :, None], columns_NP[:, None, :]][:, None]


def cut_resized(x_N1SS: Tensor, boxes: Boxes, crop_px: int) -> Tensor:
    """Crops resized to crop_px pixels with an antialiased triangle filter, float32 [N, 1, P, P] in 0..255.

    Two batched matrix products, one per axis; equal to torch's antialiased bilinear interpolation of each crop.
    """
    return _cut_resized(x_N1SS, _on_device(boxes, x_N1SS.device), crop_px)


def _cut_resized(x_N1SS: Tensor, boxes_5N: Tensor, crop_px: int) -> Tensor:
    side = x_N1SS.shape[-1]
    top_N, left_N, height_N, width_N, mirror_N = boxes_5N
    rows_NPS = _resize_weights(top_N, height_N, side, crop_px)
    columns_NPS = _resize_weights(left_N, width_N, side, crop_px)
    columns_NPS = torch.where(mirror_N.bool()[:, None, None], columns_NPS.flip(1), columns_NPS)
    return torch.bmm(torch.bmm(rows_NPS, x_N1SS[:, 0].float()), columns_NPS.transpose(1, 2))[:, None]


def normalise(x_N1PP: Tensor) -> Tensor:
    """Gray values 0..255 to float32 [N, 3, P, P] with ImageNet's mean and deviation."""
    mean_311, std_311 = _imagenet_scale(x_N1PP.device)
    return (x_N1PP.float() - mean_311) / std_311


@cache
def _imagenet_scale(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation of values 0..255; cached, as a copy to an accelerator may synchronise."""
    mean = torch.tensor(IMAGENET_MEAN, device=device)[:, None, None] * 255
    return mean, torch.tensor(IMAGENET_STD, device=device)[:, None, None] * 255


def _on_device(boxes: Boxes, device: torch.device) -> Tensor:
    """All numbers of the boxes in one small copy."""
    return torch.from_numpy(_numbers(boxes)).to(device, non_blocking=True)


def _numbers(boxes: Boxes) -> NDArray[np.float32]:
    """float32 [5, N]: top, left, height, width, mirror."""
    rows = [boxes.top_N, boxes.left_N, boxes.height_N, boxes.width_N, boxes.mirror_N.astype(np.float64)]
    return np.stack(rows).astype(np.float32)


def _resize_weights(start_N: Tensor, size_N: Tensor, side: int, crop_px: int) -> Tensor:
    """Weight of each source pixel for each pixel of the result, float32 [N, P, S]; rows sum to 1.

    Source: the triangle filter of Pillow and torch: its half-width is the scale, at least one pixel, cut at the crop's edge.
    """
    start_N11, size_N11 = start_N[:, None, None], size_N[:, None, None]
    scale_N11 = size_N11 / crop_px
    centre_NP1 = start_N11 + (torch.arange(crop_px, device=start_N.device)[None, :, None] + 0.5) * scale_N11
    pixel_11S = torch.arange(side, device=start_N.device)[None, None, :] + 0.5
    weights_NPS = (1.0 - (pixel_11S - centre_NP1).abs() / scale_N11.clamp(min=1.0)).clamp(min=0.0)
    inside_N1S = (pixel_11S > start_N11) & (pixel_11S < start_N11 + size_N11)
    weights_NPS = weights_NPS * inside_N1S
    return weights_NPS / weights_NPS.sum(dim=2, keepdim=True)
