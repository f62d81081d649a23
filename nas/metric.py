"""What trials are scored by: the one place that knows accuracy from any other metric.

Inside, more is always better: `gain` turns a score into such a number, `natural` back. What people read is the score.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from searchspace.document import value
from searchspace.errors import InputError

Z = 1.645  # 90 % of a normal distribution
BOUNDED_BY_0 = ("accuracy", "precision", "recall", "f1", "jaccard", "roc_auc", "average_precision")
# Of one label per image these are the share of images that are right, so that their interval is a binomial one.
SHARES = ("accuracy", "top_k_accuracy", "f1_micro", "precision_micro", "recall_micro", "jaccard_micro")
EXAMPLES = ("accuracy", "balanced_accuracy", "f1_macro", "roc_auc_ovr", "top_k_accuracy", "neg_log_loss")


@value
class Metric:
    """A metric's name, whether more or less of it is better, and what interval a score has.

    Of `interval` "binomial" a score is a share of the images that it is measured on, as accuracy is, and its 90 %
    interval is Wilson's; of "unknown" no interval is printed. None is "binomial" of the names that are such shares.
    """

    name: str = "accuracy"
    direction: Literal["maximize", "minimize"] = "maximize"
    interval: Literal["binomial", "unknown"] | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or len(self.name) > 60:
            raise ValueError(f"metric name: up to 60 printable characters, not {self.name!r}")
        if self.interval == "binomial" and self.direction == "minimize":  # which nobody means
            raise ValueError("metric: a share of images with a binomial interval is one of which more is better")

    @classmethod
    def of(cls, given: str | Metric) -> Metric:
        """A metric, or what a text means: `f1_macro`, or `NAME:minimize` of one's own training.

        Raises `InputError` for a direction that is none.
        """
        if isinstance(given, Metric):
            return given
        name, colon, direction = str(given).partition(":")
        if direction not in ("maximize", "minimize", "") or (colon and not direction) or not name.strip():
            raise InputError(f"metric {given!r}: NAME, NAME:maximize or NAME:minimize is accepted")
        try:
            return cls(name, "minimize" if direction == "minimize" else "maximize")
        except ValueError as error:
            raise InputError(str(error)) from None

    def __str__(self) -> str:
        """As `of` takes it."""
        return self.name if self.direction == "maximize" else f"{self.name}:{self.direction}"

    @property
    def words(self) -> str:
        """The name as it stands in a sentence: `balanced accuracy`."""
        return self.name.replace("_", " ")

    @property
    def validation(self) -> str:
        """What a score of the search is."""
        return f"validation {self.words}"

    @property
    def short(self) -> str:
        """The name where there are ten columns for it."""
        words = f"val. {'acc.' if self == DEFAULT_METRIC else self.words}"
        return words if len(words) <= 10 else f"{words[:9]}…"

    @property
    def is_share(self) -> bool:
        """Whether a score is a share of the images that it is measured on."""
        if self.interval is None:
            return self.name in SHARES and self.direction == "maximize"
        return self.interval == "binomial"

    @property
    def sign(self) -> int:
        return 1 if self.direction == "maximize" else -1

    @property
    def stored_name(self) -> str:
        """What the study's value is called, of which more is better: as scikit-learn calls a negated loss."""
        return f"{'' if self.sign > 0 else 'neg. '}{self.validation}"

    def gain(self, score: float) -> float:
        """A score as a number of which more is better."""
        return self.sign * score

    def natural(self, gain: float) -> float:
        """The score that a gain is of."""
        return self.sign * gain

    def natural_interval(self, low: float, high: float) -> tuple[float, float]:
        """The scores that an interval of gains is of, the lower one first."""
        return (low, high) if self.sign > 0 else (-high, -low)

    @property
    def worst(self) -> float | None:
        """The gain of a network that gets nothing right; None where there is no such number."""
        named = self.name.startswith(BOUNDED_BY_0) or self.name in SHARES or self.name == "balanced_accuracy"
        return 0.0 if named and self.sign > 0 else None

    @property
    def best(self) -> float | None:
        """The gain of a network that gets everything right, where that is known."""
        return 1.0 if self.worst is not None else None

    def check(self, score: float) -> None:
        """`InputError` for a score that the metric cannot have; not finite ones are for the caller to judge."""
        if self.is_share and math.isfinite(score) and not 0 <= score <= 1:
            raise InputError(
                f"{self.name}: from 0 to 1 is accepted, not {score}; metric= names another, whose scores may be any"
            )

    def scores_within(self, score: float, images: int, among: int = 1) -> tuple[float, float] | None:
        """The 90 % interval of a score that is measured on so many images: how far luck of the draw reaches; None where
        the metric has none. Of the best `among` several the interval within which all of these are at once, at least
        (Bonferroni). Wilson 1927."""
        if not self.is_share or not images:
            return None
        z = Z if among == 1 else NormalDist().inv_cdf(1 - (1 - NormalDist().cdf(Z)) / among)
        centre = (score + z * z / (2 * images)) / (1 + z * z / images)
        half = z / (1 + z * z / images) * math.sqrt(score * (1 - score) / images + z * z / (4 * images**2))
        return max(0.0, centre - half), min(1.0, centre + half)

    def standard_error(self, gain: float, images: int) -> float:
        """Of a score on so many images; 0 where it is not known."""
        if not self.is_share or not images:
            return 0.0
        return math.sqrt(max(gain * (1 - gain), 0.0) / images)


DEFAULT_METRIC = Metric()
