"""How many bytes a DenseNet moves between memory and processor for an image, counted by hand from its layers, and the rate that follows.

DenseNets are bound by memory, not by arithmetic: DenseNet-121 computes 17 GFLOP for an image of 224 pixels, forward and backward (2.87 GMAC
forward, twice as much backward), and moves 411 MB in bf16. So the bound is

    images/s <= bandwidth / bytes per image

The count assumes kernels as good as a compiler makes them around convolutions: what is elementwise is fused with its neighbours, a concatenation
is no copy, and a convolution is a kernel of its own that reads its input and writes its output once. In batches that do not fit into the
cache each pass below goes to memory. Passes over the input and the output of a layer:

| layer | forward | backward |
| --- | --- | --- |
| convolution | read in, write out | read gradient of out twice and in once, write gradient of in |
| BatchNorm and ReLU | read in twice (statistics, normalisation), write out | read gradient of out and in, twice (sums, gradient), write gradient of in |
| the same, of a concatenation | | and read the gradient that later layers have added up |
| pooling | read in, write out | read gradient of out, write gradient of in; the maximum's positions besides, one byte each |

The first convolution has no gradient of its input. In eval mode BatchNorm reads its input once. The optimiser reads and writes each parameter,
its gradient and Adam's two moments: once a step, not once an image.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["conv", "norm", "concat norm", "max pool", "pool", "linear"]

BOTTLENECK = 4
"""Channels of a dense layer's first convolution, as a multiple of the growth. Source: arXiv:1608.06993; torchvision's `bn_size`."""


@dataclass(frozen=True)
class Layer:
    """Values that a layer reads and writes for an image."""

    kind: Kind
    read: int
    written: int


@dataclass(frozen=True)
class DenseShape:
    """A DenseNet. The default is DenseNet-121."""

    growth: int = 32
    blocks: tuple[int, ...] = (6, 12, 24, 16)
    stem: int = 64
    findings: int = 14


SHAPES = {"densenet121": DenseShape(), "densenet_tiny": DenseShape(growth=8, blocks=(2, 2, 2, 2), stem=16)}
"""By the names of `trainer.models.architectures.build`."""


def layers(shape: DenseShape, px: int) -> Iterator[Layer]:
    """The layers of a square image of this side, in order."""
    side = (px + 1) // 2
    channels = shape.stem
    yield Layer("conv", 3 * px**2, channels * side**2)
    yield Layer("norm", channels * side**2, channels * side**2)
    pooled = (side + 1) // 2
    yield Layer("max pool", channels * side**2, channels * pooled**2)
    side = pooled
    for number, count in enumerate(shape.blocks, start=1):
        for _ in range(count):
            yield from _dense_layer(channels, shape.growth, side**2)
            channels += shape.growth
        yield Layer("concat norm", channels * side**2, channels * side**2)
        if number < len(shape.blocks):
            yield Layer("conv", channels * side**2, channels // 2 * side**2)
            channels //= 2
            yield Layer("pool", channels * side**2, channels * (side // 2) ** 2)
            side //= 2
    yield Layer("pool", channels * side**2, channels)
    yield Layer("linear", channels, shape.findings)


def _dense_layer(channels: int, growth: int, pixels: int) -> Iterator[Layer]:
    wide = BOTTLENECK * growth
    yield Layer("concat norm", channels * pixels, channels * pixels)
    yield Layer("conv", channels * pixels, wide * pixels)
    yield Layer("norm", wide * pixels, wide * pixels)
    yield Layer("conv", wide * pixels, growth * pixels)


def _forward(layer: Layer, *, training: bool) -> int:
    """Values moved."""
    reads = 2 if training and layer.kind in {"norm", "concat norm"} else 1
    return reads * layer.read + layer.written


def _backward(layer: Layer) -> int:
    """Values moved."""
    if layer.kind in {"norm", "concat norm"}:
        passes = 3 * layer.read + 2 * layer.written
        return passes + (layer.read if layer.kind == "concat norm" else 0)
    if layer.kind in {"conv", "linear"}:
        return 2 * layer.written + 2 * layer.read
    return layer.written + layer.read


def image_bytes(shape: DenseShape, px: int, *, value_bytes: int, training: bool) -> float:
    """Bytes that an image moves: forward, and backward in training; `value_bytes` is 2 in bf16 and 4 in fp32."""
    every = list(layers(shape, px))
    values = sum(_forward(layer, training=training) for layer in every)
    positions = 0
    if training:
        values += sum(map(_backward, every)) - every[0].read  # no gradient of the image
        positions = 2 * sum(layer.written for layer in every if layer.kind == "max pool")  # a byte written, and read
    return values * value_bytes + positions


def step_bytes(parameters: int) -> int:
    """Bytes that Adam moves in a step in fp32: reads weight, gradient and two moments, writes weight and moments."""
    return 7 * 4 * parameters


def bound_images_per_s(
    shape: DenseShape, px: int, *, batch: int, parameters: int, value_bytes: int, training: bool, bytes_per_s: float
) -> float:
    """The rate at which memory of this bandwidth can serve a batch."""
    of_images = batch * image_bytes(shape, px, value_bytes=value_bytes, training=training)
    of_step = step_bytes(parameters) if training else value_bytes * parameters
    return batch * bytes_per_s / (of_images + of_step)
