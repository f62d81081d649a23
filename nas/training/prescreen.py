"""Several proposals are drawn for every trial, and the one with the best zero-cost score is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from nas.config import COST_SCORES, Prescreen
from nas.data.datasets import Split
from nas.latency.timing import threads
from nas.training.batches import BatchLoader
from nas.training.trainer import resize, statistics
from nas.training.zero_cost import PROXIES
from nas.trial import proxy
from searchspace.space.space import Candidate

IMAGES = 64


class Screen:
    """Chooses among candidates by a score of `nas.training.zero_cost`, of what would be trained of them, on a few
    training images.

    A cost as the score is the honest control: it takes no time at all, and larger is said to be better of it too.
    """

    def __init__(self, config: Prescreen, split: Split, seed: int, resolutions: tuple[int, int] | None = None) -> None:
        self.draws, self.by, self.split, self.seed = config.draws, config.by, split, seed
        self.resolutions = resolutions

    def best(self, candidates: Sequence[Candidate]) -> int:
        """The place of the first of those with the highest score; one that cannot be scored is the worst."""
        scores = [self.score(candidate) for candidate in candidates]
        return max(range(len(scores)), key=lambda i: scores[i] if math.isfinite(scores[i]) else -math.inf)

    def score(self, candidate: Candidate) -> float:
        if self.by in COST_SCORES:
            return float(getattr(candidate.cost, self.by))
        trained = proxy(candidate.arch, self.split.num_classes, self.split.resolution, self.resolutions)
        images, labels = self._images
        try:
            with threads(1):  # the cores are the trials'
                return PROXIES[self.by](trained, resize(images, trained.resolution), labels, self.seed)
        except (ValueError, OverflowError):  # the logarithm of nothing, or of too much
            return math.nan

    @cached_property
    def _images(self) -> tuple[Tensor, Tensor]:
        feed = BatchLoader(self.split.train_images, "cpu")
        mean, std = statistics(feed)
        shuffled = torch.randperm(len(self.split.train_labels), generator=torch.Generator().manual_seed(self.seed))
        chosen = shuffled[:IMAGES]
        return (feed.at(chosen).float() - mean) / std, torch.tensor(self.split.train_labels)[chosen]
