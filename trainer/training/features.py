"""Features of a frozen backbone, computed once per start: while images are decoded, and the rest by all workers.

The batches do not depend on which worker computes them, or when, so that a run that resumes has the same features bit for bit.
Shapes: N training and validation images, F features, B batches.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainer.data.loader import Batch, Loader, Rows, evaluation_batches
from trainer.data.packs.unfinished import UnfinishedPack
from trainer.models.architectures import features_of, headless
from trainer.models.predictor import DistributedPredictor, refuse_non_finite

TASK: Final = "computing features"

PIECE_BYTES: Final = 64 * 2**20
"""Size of the features that the workers exchange at a time; the exchange needs a second copy of them."""


class FrozenFeatures:
    """The features of these rows, as far as they are computed; each batch on one worker.

    Collective: all ranks make one.
    """

    def __init__(self, network: nn.Module, predictor: DistributedPredictor, rows_N: Rows) -> None:
        self.rows_N = np.sort(rows_N)  # decoded in this order
        self._network = network
        self._predictor = replace(predictor, findings=features_of(network), side_by_side=True)
        self._batches = evaluation_batches(self.rows_N, rank=0, world=1, batch=predictor.batch)
        self._features_NF = np.zeros((len(self.rows_N), self._predictor.findings), np.float32)
        self._is_computed_B = np.zeros(len(self._batches), np.uint8)
        self.share_of_node = self._share_of_node()
        """The batches that the first worker of this node computes while its images are decoded."""

    def compute_beside(
        self, records: UnfinishedPack, after_batch: Callable[[], None], *, skips_unreadable: bool
    ) -> None:
        """Compute this node's share until its pack is complete; what is left is for all workers.

        It also ends where an image is unreadable and the run will be refused for it. Features that are there are not computed again: images
        of 8 bits are the same in any gray range. Raises: UnknownGrayRangeError, as `UnfinishedPack`.
        """
        share = [number for number in self.share_of_node if not self._is_computed_B[number]]
        loaded = self._loaded(share, Loader(records, self._predictor.device, self._predictor.batch))

        def is_over() -> bool:
            return records.built.done() or (records.has_unreadable and not skips_unreadable)

        self._compute(share, _until(is_over, loaded), after_batch)

    def left(self) -> list[int]:
        """The batches that no worker has computed. Collective: all ranks call it."""
        is_computed_B = self._predictor.group.largest(torch.from_numpy(self._is_computed_B))
        return [number for number, is_computed in enumerate(is_computed_B.tolist()) if not is_computed]

    def compute_left(self, numbers: Sequence[int], loader: Loader, after_batch: Callable[[], None]) -> None:
        """Compute these batches, each on one worker. Collective: all ranks call it, and `after_batch` equally often."""
        world = self._predictor.group.world
        own = numbers[world.rank :: world.size]
        self._compute(own, self._loaded(own, loader), after_batch)
        for _ in range(len(own), -(-len(numbers) // world.size)):
            after_batch()

    def gathered(self, used_N: Rows, after_piece: Callable[[], None]) -> NDArray[np.float32]:
        """The features [N, F] of `rows_N` on every rank, once all are computed. Collective: all ranks call it.

        Raises: JobFailedError for a non-finite one of the rows that are used.
        """
        group = self._predictor.group
        images = max(1, PIECE_BYTES // (4 * self._predictor.findings))
        is_used_N, bad = np.isin(self.rows_N, used_N), 0
        for first in range(0, len(self.rows_N), images):
            piece = self._features_NF[first : first + images]
            piece[:] = group.sum(torch.from_numpy(piece)).numpy()  # 0 on all ranks but one
            bad += int((~np.isfinite(piece).all(axis=1) & is_used_N[first : first + images]).sum())
            after_piece()
        group.all_or_raise(lambda: refuse_non_finite(bad, int(is_used_N.sum())))
        return self._features_NF

    def _share_of_node(self) -> range:
        """Of n nodes, every n-th batch. Nodes may have different numbers of workers."""
        group = self._predictor.group
        is_first = [content == b"0" for content in group.all_gather(str(group.world.local_rank).encode())]
        node = sum(is_first[: group.world.node_ranks.start])
        return range(node, len(self._batches), sum(is_first))

    def _loaded(self, numbers: Sequence[int], loader: Loader) -> Iterator[Batch]:
        return loader.batches([self._batches[number] for number in numbers])

    def _compute(self, numbers: Sequence[int], loaded: Iterator[Batch], after_batch: Callable[[], None]) -> None:
        """Compute the first of these batches, those that are loaded."""
        batch = self._predictor.batch
        with headless(self._network) as backbone, closing(self._predictor.outputs(backbone, loaded)) as outputs:
            for number, features_NF in zip(numbers, outputs, strict=False):
                self._features_NF[number * batch : (number + 1) * batch] = features_NF
                self._is_computed_B[number] = 1
                after_batch()


def _until(is_over: Callable[[], bool], loaded: Iterator[Batch]) -> Iterator[Batch]:
    """The batches until then; those that threads are computing at that time are completed."""
    for batch in loaded:
        yield batch
        if is_over():
            break
