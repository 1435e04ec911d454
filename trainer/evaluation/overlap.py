"""Images of patients that a model was trained on.

Shapes: N images of the data set.
"""

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.data.patients import patient_in_name


def of_patients(known: Collection[str], images: Sequence[str], patients_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each image is of a patient who has an image among `known`.

    `known` may contain names of another data set: names that identify the patient, as NIH's do, are compared by
    patient. Pass all images of the data set, not one split: a known image identifies all others of its patient.
    """
    names = set(known)
    tokens = {patient_in_name(name) for name in names} - {""}
    is_known_N = np.array([name in names or patient_in_name(name) in tokens for name in images], np.bool_)
    return np.isin(patients_N, np.unique(patients_N[is_known_N]))
