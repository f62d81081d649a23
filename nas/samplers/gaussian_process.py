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
    """Points as the model sees them: features; standardised numbers that tell of outcomes, a column each, such as the
    logarithm of the cost; and what each is worth beside its outcome."""

    features: Array
    lines: Array
    beside: Array


class Kernel:
    """s² exp(−θ Σ δ_d) + Σ c² z z′, with its hyperparameters θ, s and every line's c fitted to data under log-normal
    priors.

    One θ for all choices: one for each was not better on any benchmark tried, and takes longer to learn.
    """

    def __init__(self, weights: Array, lines: int = 1) -> None:
        self.weights = weights
        # With θ = 2 / number of choices, two random points are nearly unrelated.
        self.centre: Array = np.log([2.0 / max(float(weights.sum()), 1.0), 1.0, *[0.5] * lines])
        self.spread = np.array([1.0, 0.5, *[1.0] * lines])
        self.log = self.centre

    def __call__(self, a: Rows, b: Rows) -> Array:
        theta, s, *c = np.exp(self.log)
        near = s**2 * np.exp(-theta * distances(a.features, b.features, self.weights))
        both: Array = near + (a.lines * np.square(c)) @ b.lines.T
        return both

    def diagonal(self, a: Rows) -> Array:
        _, s, *c = np.exp(self.log)
        variance: Array = s**2 + a.lines**2 @ np.square(c)
        return variance

    def fit(self, rows: Rows, y: Array, noise: Array) -> None:
        """The most probable hyperparameters, a few steps from the prior's middle: the same for the same data."""
        lines = [np.outer(line, line) for line in rows.lines.T]
        data = (distances(rows.features, rows.features, self.weights), lines, y, noise)
        found = minimize(
            self._loss,
            self.centre,
            data,
            jac=True,
            method="L-BFGS-B",
            bounds=[(-8.0, 4.0)] * len(self.centre),
            options={"maxiter": STEPS},
        )
        self.log = found.x

    def _loss(self, log: Array, apart: Array, lines: list[Array], y: Array, noise: Array) -> tuple[float, Array]:
        """Minus the log posterior, and its gradient."""
        theta, s, *c = np.exp(log)
        near = s**2 * np.exp(-theta * apart)
        lines = [one**2 * line for one, line in zip(c, lines, strict=True)]
        factor = cho_factor(sum(lines, near) + np.diag(noise + JITTER), lower=True)
        inverse = cho_solve(factor, np.eye(len(y)))
        alpha = inverse @ y
        pull = inverse - np.outer(alpha, alpha)
        gradient = [-0.5 * theta * (pull * near * apart).sum(), *((pull * one).sum() for one in (near, *lines))]
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
