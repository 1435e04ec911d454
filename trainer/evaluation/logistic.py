"""Logistic regression with few coefficients, and its standard errors over patients.

Shapes: N images, D coefficients, P patients.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.metrics import Floats, probability

_ITERATIONS: Final = 100
_HALVINGS: Final = 120
"""Where all probabilities are 0 or 1 in floating point, the gradient says little about the curvature, and a step may
be far too long.
"""

_NEAR: Final = 1e-10
"""Shorter steps change nothing."""


def coefficients(x_ND: Floats, target_N: Floats, offset_N: Floats, start_D: Floats, prior_D: Floats) -> Floats:
    """Coefficients of the logistic regression of the targets, by Newton's method with halved steps.

    Each is regularised towards its start by its weight in `prior_D`. Source: Lin, Lin & Weng 2007, "A note on Platt's
    probabilistic outputs for support vector machines".
    """

    def loss(beta_D: Floats) -> float:
        z_N = offset_N + x_ND @ beta_D
        return float((np.logaddexp(0.0, z_N) - target_N * z_N).sum() + (prior_D * (beta_D - start_D) ** 2).sum() / 2)

    beta_D = start_D
    for _ in range(_ITERATIONS):
        p_N = probability(offset_N + x_ND @ beta_D)
        gradient_D = x_ND.T @ (p_N - target_N) + prior_D * (beta_D - start_D)
        step_D = np.linalg.solve(_curvature(x_ND, p_N) + np.diag(prior_D), gradient_D)
        before = loss(beta_D)
        scales = 0.5 ** np.arange(_HALVINGS)
        scales = scales[scales * np.abs(step_D).max() > _NEAR]
        scale = next((s for s in scales if loss(beta_D - s * step_D) < before), 0.0)
        beta_D = beta_D - scale * step_D
        if np.abs(scale * step_D).max() < _NEAR:
            break
    return beta_D


def _curvature(x_ND: Floats, p_N: Floats) -> Floats:
    curvature_DD: Floats = (x_ND.T * (p_N * (1 - p_N) + 1e-12)) @ x_ND
    return curvature_DD


def robust_errors(
    x_ND: Floats, target_N: Floats, offset_N: Floats, beta_D: Floats, patients_N: NDArray[np.integer]
) -> Floats:
    """Standard errors of the coefficients, shape D, for images that are alike within a patient. Needs at least two patients.

    Source: Liang & Zeger 1986, doi:10.1093/biomet/73.1.13: the sandwich estimator with patients as clusters, times P / (P - 1).
    """
    p_N = probability(offset_N + x_ND @ beta_D)
    _, patient_N = np.unique(patients_N, return_inverse=True)
    patients = int(patient_N.max()) + 1
    score_PD = np.stack([np.bincount(patient_N, x_N * (target_N - p_N), patients) for x_N in x_ND.T], axis=1)
    bread_DD = np.linalg.inv(_curvature(x_ND, p_N))
    variance_DD = bread_DD @ (score_PD.T @ score_PD) @ bread_DD * patients / (patients - 1)
    errors_D: Floats = np.sqrt(np.diag(variance_DD))
    return errors_D
