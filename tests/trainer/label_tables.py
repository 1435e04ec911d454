"""Tables of labels for tests, with images named after their position."""

import numpy as np

from trainer.data.labels import LabelTable


def table(patients, labels, split=None):
    """A table of images named after their position."""
    labels_NK = np.array(labels, dtype=np.float32).reshape(len(patients), -1)
    return LabelTable(
        findings=tuple(f"finding {k}" for k in range(labels_NK.shape[1])),
        images=tuple(f"image {n}" for n in range(len(patients))),
        patients_N=np.array(patients, dtype=np.int64),
        labels_NK=labels_NK,
        split_N=np.array([-1] * len(patients) if split is None else split, dtype=np.int8),
    )
