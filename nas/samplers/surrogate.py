"""`Surrogate`: a small Gaussian process over points: what was seen, what is expected elsewhere, and how surely."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize
from scipy.stats import norm

from nas.samplers.encoding import Array, distances

NOISE = 0.05
JITTER = 1e-6
STEPS = 12
SPREAD = 1.0
FITTED = 128


class Rows(NamedTuple):
    """Points as the model sees them: features, and the standardised logarithm of their cost."""

    features: Array
    z: Array


class Kernel:
    """s² exp(−Σ θ_d δ_d) + c² z z′, with its hyperparameters θ, s, c fitted to data under log-normal priors."""

    def __init__(self, groups: Array, weights: Array) -> None:
        self.groups, self.weights = groups, weights
        self.count = int(groups.max()) + 1 if len(groups) else 0
        self.centre = np.concatenate([np.full(self.count, np.log(2.0 / max(self.count, 1))), [0.0, np.log(0.5)]])
        self.spread = np.concatenate([np.full(self.count, SPREAD), [0.5, 1.0]])
        self.log = self.centre.copy()

    def scaled(self, log: Array) -> Array:
        return self.weights * np.exp(log[: self.count])[self.groups]

    def __call__(self, a: Rows, b: Rows) -> Array:
        s, c = np.exp(2 * self.log[self.count :])
        return s * np.exp(-distances(a.features, b.features, self.scaled(self.log))) + c * np.outer(a.z, b.z)

    def diagonal(self, a: Rows) -> Array:
        s, c = np.exp(2 * self.log[self.count :])
        return s + c * a.z**2

    def fit(self, rows: Rows, y: Array, noise: Array) -> None:
        """The most probable hyperparameters, a few steps from the prior's middle: the same for the same data."""
        found = minimize(
            self._loss, self.centre, (rows, y, noise), jac=True, method="L-BFGS-B",
            bounds=[(-8.0, 4.0)] * len(self.centre), options={"maxiter": STEPS},
        )
        self.log = found.x

    def _loss(self, log: Array, rows: Rows, y: Array, noise: Array) -> tuple[float, Array]:
        """Minus the log posterior, and its gradient."""
        x, z = rows
        scaled = self.scaled(log)
        s, c = np.exp(2 * log[self.count :])
        near = s * np.exp(-distances(x, x, scaled))
        line = c * np.outer(z, z)
        factor = cho_factor(near + line + np.diag(noise + JITTER), lower=True)
        inverse = cho_solve(factor, np.eye(len(y)))
        alpha = inverse @ y
        pull = inverse - np.outer(alpha, alpha)
        moved = pull * near
        # Σ_ij M_ij (x_i + x_j − 2 x_i x_j) for every feature at once.
        features = 2 * (moved.sum(1) @ x) - 2 * ((moved @ x) * x).sum(0)
        gradient = np.concatenate(
            [
                -0.5 * np.bincount(self.groups, features * scaled, self.count),
                [moved.sum(), (pull * line).sum()],
            ]
        )
        away = (log - self.centre) / self.spread
        loss = 0.5 * float(y @ alpha) + float(np.log(np.diag(factor[0])).sum()) + 0.5 * float(away @ away)
        return loss, gradient + away / self.spread


class Surrogate:
    """The process conditioned on standardised outcomes `y`, each with its own noise variance."""

    def __init__(self, kernel: Kernel, rows: Rows, y: Array, noise: Array) -> None:
        self.kernel, self.rows = kernel, rows
        covariance = kernel(rows, rows)
        self._factor = cho_factor(covariance + np.diag(noise + JITTER), lower=True)
        self._alpha = cho_solve(self._factor, y)
        self.best = float((covariance @ self._alpha).max())

    def predict(self, rows: Rows) -> tuple[Array, Array]:
        """Mean and standard deviation of the noiseless outcome."""
        cross = self.kernel(rows, self.rows)
        explained = solve_triangular(self._factor[0], cross.T, lower=True, check_finite=False)
        variance = self.kernel.diagonal(rows) - (explained**2).sum(0)
        return cross @ self._alpha, np.sqrt(np.maximum(variance, 1e-12))

    def improvement(self, rows: Rows) -> Array:
        """How much better than the best mean so far a point is expected to be."""
        mean, deviation = self.predict(rows)
        gain = (mean - self.best) / deviation
        return deviation * (gain * norm.cdf(gain) + norm.pdf(gain))
