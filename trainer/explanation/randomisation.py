"""Model randomisation test: maps must change when weights are randomised from the head down.

Source: Adebayo et al. 2018, arXiv:1810.03292, the cascading model randomisation test. Shapes: N images, C channels, H x W pixels,
M findings, h x w cells of a map.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Final, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchvision.models import VGG, DenseNet, ResNet

from trainer.models.architectures import build

Maps = NDArray[np.float32]
Floats = NDArray[np.float64]

FORMAT: Final = 1


class Stage(TypedDict):
    """Maps of the network with all weights from the head down to this stage randomised."""

    redrawn: str
    """The last randomised stage, `-` for none."""
    similarity: float | None
    """Mean rank correlation with the trained network's maps; None where all maps are flat."""
    lowest: float | None
    highest: float | None
    """Extremes of the draws' means."""


class Randomisation(TypedDict):
    """The document `randomisation.json`."""

    format: int
    model: str
    images: int
    maps: int
    draws: int
    stages: list[Stage]


def stages(network: nn.Module) -> list[tuple[str, list[str]]]:
    """Stages of the network from the head down, with prefixes of their weights' names."""
    if isinstance(network, DenseNet):
        blocks = [(f"denseblock{n}", [f"features.denseblock{n}.", f"features.transition{n}."]) for n in (4, 3, 2, 1)]
        blocks[0][1].append("features.norm5.")
        return [("classifier", ["classifier."]), *blocks, ("conv0", ["features.conv0.", "features.norm0."])]
    if isinstance(network, VGG):
        ends = [number for number, layer in enumerate(network.features) if isinstance(layer, nn.MaxPool2d)]
        starts = [0, *(end + 1 for end in ends[:-1])]
        blocks = [
            (f"block{n}", [f"features.{layer}." for layer in range(start, end)])
            for n, (start, end) in enumerate(zip(starts, ends, strict=True), start=1)
        ]
        return [("classifier", ["classifier."]), *reversed(blocks)]
    assert isinstance(network, ResNet), type(network)
    layers = [(f"layer{n}", [f"layer{n}."]) for n in (4, 3, 2, 1)]
    return [("fc", ["fc."]), *layers, ("conv1", ["conv1.", "bn1."])]


def check(
    network: nn.Module,
    maps_of: Callable[[nn.Module], Maps],
    *,
    fresh: Callable[[], nn.Module],
    draws: int,
    seed: int,
) -> list[Stage]:
    """Similarity of the trained network's maps to those with increasingly many randomised weights.

    `maps_of` returns the maps [N, M, h, w] of the same images; `fresh` builds an untrained network of the same kind, on the CPU.
    """
    trained = maps_of(network)
    stage_weights = stages(network)

    def cascade(seed: int) -> list[float]:
        """Similarity after each stage."""
        redrawn, new = copy.deepcopy(network), _weights(fresh, seed)
        similarities = []
        for _, prefixes in stage_weights:
            some = {name: tensor for name, tensor in new.items() if name.startswith(tuple(prefixes))}
            redrawn.load_state_dict(some, strict=False)
            similarities.append(_similarity(trained, maps_of(redrawn)))
        return similarities

    means_DS = np.array([cascade(seed + draw) for draw in range(draws)])
    rows = [Stage(redrawn="-", similarity=_null(_similarity(trained, trained)), lowest=None, highest=None)]
    for (name, _), means_D in zip(stage_weights, means_DS.T, strict=True):
        defined_D = means_D[~np.isnan(means_D)]
        rows.append(
            Stage(
                redrawn=name,
                similarity=float(defined_D.mean()) if len(defined_D) else None,
                lowest=float(defined_D.min()) if len(defined_D) else None,
                highest=float(defined_D.max()) if len(defined_D) else None,
            )
        )
    return rows


def untrained(model: str, head: str, findings: int) -> Callable[[], nn.Module]:
    """Builder of such a network with new random weights."""
    return lambda: build(model, head, findings)


def as_table(document: Randomisation) -> str:
    """One line per stage."""
    lines = [f"{'randomised down to':<20}{'similarity':>12}{'lowest':>10}{'highest':>10}"]
    for stage in document["stages"]:
        cells = [_cell(stage[key]) for key in ("similarity", "lowest", "highest")]
        lines.append(f"{stage['redrawn']:<20}{cells[0]:>12}{cells[1]:>10}{cells[2]:>10}")
    return "\n".join(lines)


def rank_correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Spearman's correlation; nan when one is constant or not finite."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan")
    ranks = np.stack([_midranks(one.ravel()), _midranks(other.ravel())])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((centred**2).sum(axis=1).prod())
    return float((centred[0] * centred[1]).sum() / length) if length > 0 else float("nan")


def _midranks(values_V: NDArray[np.floating]) -> Floats:
    """Ranks from 1; equal values share their mean rank."""
    _, rank_of, count = np.unique(values_V, return_inverse=True, return_counts=True)
    ranks: Floats = (np.cumsum(count) - (count - 1) / 2)[rank_of]
    return ranks


def _weights(fresh: Callable[[], nn.Module], seed: int) -> Mapping[str, torch.Tensor]:
    """Weights drawn with this seed, without affecting the program's random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return fresh().state_dict()


def _similarity(some: Maps, others: Maps) -> float:
    """Mean over maps; nan when all are flat."""
    shape = (-1, some.shape[-2] * some.shape[-1])
    values = [rank_correlation(a, b) for a, b in zip(some.reshape(shape), others.reshape(shape), strict=True)]
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
