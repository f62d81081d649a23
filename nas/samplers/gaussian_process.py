"""`Surrogate`: a small Gaussian process over points: what was seen, what is expected elsewhere, and how surely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.special import ndtr

from nas.samplers.encoding import Array, distances

NOISE = 0.05
JITTER = 1e-6
STEPS = 12
FITTED = 128


class Rows(NamedTuple):
    """Points as the model sees them: features, the standardised logarithm of their cost, and what each is worth beside
    its outcome."""

    features: Array
    z: Array
    beside: Array


class Kernel:
    """s² exp(−θ Σ δ_d) + c² z z′, with its hyperparameters θ, s, c fitted to data under log-normal priors.

    One θ for all choices: one for each was not better on any benchmark tried, and takes longer to learn.
    """

    def __init__(self, weights: Array) -> None:
        self.weights = weights
        # With θ = 2 / number of choices, two random points are nearly unrelated.
        self.centre: Array = np.log([2.0 / max(float(weights.sum()), 1.0), 1.0, 0.5])
        self.spread = np.array([1.0, 0.5, 1.0])
        self.log = self.centre

    def __call__(self, a: Rows, b: Rows) -> Array:
        theta, s, c = np.exp(self.log)
        near = s**2 * np.exp(-theta * distances(a.features, b.features, self.weights))
        both: Array = near + c**2 * np.outer(a.z, b.z)
        return both

    def diagonal(self, a: Rows) -> Array:
        _, s, c = np.exp(self.log)
        variance: Array = s**2 + c**2 * a.z**2
        return variance

    def fit(self, rows: Rows, y: Array, noise: Array) -> None:
        """The most probable hyperparameters, a few steps from the prior's middle: the same for the same data."""
        data = (distances(rows.features, rows.features, self.weights), np.outer(rows.z, rows.z), y, noise)
        found = minimize(
            self._loss,
            self.centre,
            data,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-8.0, 4.0)] * 3,
            options={"maxiter": STEPS},
        )
        self.log = found.x

    def _loss(self, log: Array, apart: Array, line: Array, y: Array, noise: Array) -> tuple[float, Array]:
        """Minus the log posterior, and its gradient."""
        theta, s, c = np.exp(log)
        near, line = s**2 * np.exp(-theta * apart), c**2 * line
        factor = cho_factor(near + line + np.diag(noise + JITTER), lower=True)
        inverse = cho_solve(factor, np.eye(len(y)))
        alpha = inverse @ y
        pull = inverse - np.outer(alpha, alpha)
        gradient = [-0.5 * theta * (pull * near * apart).sum(), (pull * near).sum(), (pull * line).sum()]
        away = (log - self.centre) / self.spread
        loss = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(away @ away)
        return loss, np.array(gradient) + away / self.spread


class Surrogate:
    """The process conditioned on standardised outcomes `y`, each with its own noise variance. Points are judged by what
    they are worth: their outcome and what is known beside it."""

    def __init__(self, kernel: Kernel, rows: Rows, y: Array, noise: Array) -> None:
        self.kernel, self.rows = kernel, rows
        self.noise = float(noise.min())  # of one more outcome
        covariance = kernel(rows, rows)
        self._factor = cho_factor(covariance + np.diag(noise + JITTER), lower=True)
        self._alpha = cho_solve(self._factor, y)
        self.best = float((covariance @ self._alpha + rows.beside).max())

    def predict(self, rows: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless outcome."""
        cross = self.kernel(rows, self.rows)
        explained = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        variance = self.kernel.diagonal(rows) - (explained**2).sum(0)
        return cross @ self._alpha, np.sqrt(np.maximum(variance, 1e-12))

    def joint(self, rows: Rows) -> tuple[Array, Array]:
        """Mean and covariance of what points are worth."""
        cross = self.kernel(rows, self.rows)
        explained = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        covariance: Array = self.kernel(rows, rows) - explained.T @ explained
        return cross @ self._alpha + rows.beside, covariance

    def improvement(self, rows: Rows) -> Array:
        """How much more than the best so far a point is expected to be worth."""
        mean, deviation = self.predict(rows)
        gain = (mean + rows.beside - self.best) / deviation
        density = np.exp(-0.5 * gain**2) / np.sqrt(2 * np.pi)
        expected: Array = deviation * (gain * ndtr(gain) + density)
        return expected
