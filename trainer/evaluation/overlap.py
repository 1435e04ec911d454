"""Which images of a data set are of patients that a model has seen.

Shapes: N images of the data set.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.class_folders import patient_in_name


def of_patients(known: Collection[str], images: Sequence[str], patients_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is of a patient of whom one of the `known` images is.

    `known` may be names of another data set's images: those that tell their patient, as NIH's do, are compared by patient.
    All images of the data set are needed, not those of one part: one that is known tells of all others of its patient.
    """
    names = set(known)
    tokens = {patient_in_name(name) for name in names} - {""}
    is_known_N = np.array([name in names or patient_in_name(name) in tokens for name in images], np.bool_)
    return np.isin(patients_N, np.unique(patients_N[is_known_N]))
