"""How much faster the patient bootstrap is than a loop of scikit-learn calls, on one thread, in one run.

    OMP_NUM_THREADS=1 python benchmarks/bootstrap.py [--resamples 1000] [--loop 4]

Draws scores and labels of the size of the published 70/10/20 test list: 22,433 images of 6,187 patients, 14 findings as common
as there. Takes turns: all resamples by this project, a few by `roc_auc_score` and `average_precision_score` with the same
weights. Every resample of the loop must agree. Prints seconds of the processor, the ratio per resample, and the memory at the highest.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.evaluation.bootstrap import Resamples, resampled

IMAGES, PATIENTS = 22_433, 6_187
POSITIVES = (2420, 582, 2754, 3938, 1133, 1335, 242, 1089, 957, 413, 509, 362, 734, 42)
ROUNDS = 3


def drawn() -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.int64]]:
    """Scores that follow labels, and whose each image is."""
    random = np.random.default_rng(0)
    labels_NK = (random.random((IMAGES, len(POSITIVES))) < np.array(POSITIVES) / IMAGES).astype(np.uint8)
    return random.normal(labels_NK * 1.3), labels_NK, np.sort(random.integers(PATIENTS, size=IMAGES))


def loop(
    scores_NK: NDArray[np.float64], labels_NK: NDArray[np.uint8], weights_BN: NDArray[np.int32]
) -> NDArray[np.float64]:
    """AUROC and average precision of each resample and finding, one call each."""
    return np.array(
        [
            [
                [
                    score(labels_N, scores_N, sample_weight=weights_N)
                    for score in (roc_auc_score, average_precision_score)
                ]
                for scores_N, labels_N in zip(scores_NK.T, labels_NK.T, strict=True)
            ]
            for weights_N in weights_BN
        ]
    )


def seconds(act: Callable[[], object]) -> float:
    """How long the processor works on it, whatever else it does meanwhile."""
    start = time.process_time()
    act()
    return time.process_time() - start


def main() -> None:
    """Measure in turns, compare the values, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=4, help="resamples of the loop")
    flags = parser.parse_args()
    scores_NK, labels_NK, patients_N = drawn()
    resamples = Resamples(PATIENTS, flags.resamples, seed=0)
    weights_BN = np.concatenate(list(resamples.chunks()))[: flags.loop, patients_N]
    ours, theirs, with_curves = [], [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: resampled(scores_NK, labels_NK, patients_N, resamples)))
        with_curves.append(seconds(lambda: resampled(scores_NK, labels_NK, patients_N, resamples, curves=True)))
        theirs.append(seconds(lambda: loop(scores_NK, labels_NK, weights_BN)))
    ratios = [loops / flags.loop / (mine / flags.resamples) for mine, loops in zip(ours, theirs, strict=True)]
    both = resampled(scores_NK, labels_NK, patients_N, resamples)
    values_BK2 = np.stack([both.auroc_BK, both.auprc_BK], axis=2)[: flags.loop]
    difference = np.abs(values_BK2 - loop(scores_NK, labels_NK, weights_BN)).max()
    print(f"this project, {flags.resamples:,} resamples    {statistics.median(ours):8.2f} s")
    print(f"  with bands of curves            {statistics.median(with_curves):8.2f} s")
    print(f"scikit-learn, {flags.loop:,} resamples        {statistics.median(theirs):8.2f} s")
    print(f"per resample x {statistics.median(ratios):,.0f} ({min(ratios):,.0f}-{max(ratios):,.0f}), {ROUNDS} rounds")
    print(f"largest difference of a value   {difference:.1e}")
    print(f"memory at the highest           {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f} MiB")


if __name__ == "__main__":
    main()
