"""`Predictor`: our own sampler. A Gaussian process that knows the budget."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from numbers import Integral

import numpy as np
import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas.samplers.domain import Choices, CostOf, Key, Point
from nas.samplers.encoding import Array, Encoding
from nas.samplers.gaussian_process import FITTED, NOISE, Kernel, Rows, Surrogate
from nas.samplers.observations import LEARNT, Observations, PriorObservation, violation
from nas.samplers.point_sampler import History, check_one_objective, trial_of_number
from nas.samplers.repaired import Repaired, from_seed
from nas.samplers.replicates import is_replicate, knowledge_gradient, may_be_replicate, noise_variance

START = 12
PARENTS = 10
ROUNDS = 4
CHILDREN = 200
REPAIRS = 10
CROSSOVER = 0.4
LOST = 3
COMPARED = 40  # points that are worth another evaluation, if any is

ReadPoints = Callable[[Sequence[Point]], Rows]


class Predictor(Repaired):
    """Expected improvement under a Gaussian process, over children of the best points that fit the budget.

    The first 12 points are random. Trials in flight count as if they had scored what the process expects of them.
    Without a cost every point fits, and the process has no cost term. One objective only; failed trials teach nothing.
    A part of the later proposals, `tpe_share`, may be TPE's, repaired too.

    `beside` is what every point is known to be worth beside its outcome, in standard deviations of outcomes: points are
    proposed and named by the sum of both. Outcomes of brief trainings leave out what longer ones would add, say. It may
    tell of outcomes too, as the cost may.

    `evidence` of earlier studies, standardised there, takes the place of the random start. Their points are only learnt
    from; the trials of this study are laid beside them where the evidence expects them on average.

    `trials` is how many the study will have, where that is known. From 50 on, a trial of their second half may be a
    replicate: it evaluates a point once more, where another score of that is expected to tell more about which point is
    best than a new one (knowledge gradient); the last tenth are replicates always, and so are all that are left where
    the space is used up. How noisy scores are is learnt from them. With or without them, `winner` names the point of
    which the process expects most, not that of the luckiest score.
    """

    def __init__(
        self,
        choices: Choices,
        cost: CostOf | None = None,
        budget: float | None = None,
        seed: int = 0,
        low: float = 0.85,
        tpe_share: float = 0.0,
        evidence: Sequence[PriorObservation] = (),
        trials: int | None = None,
        beside: Callable[[Point], float] | None = None,
    ) -> None:
        super().__init__(from_seed(optuna.samplers.TPESampler, n_startup_trials=1), choices, cost, budget, seed, low)
        if not 0 <= tpe_share <= 1 or not (trials is None or (isinstance(trials, Integral) and trials > 0)):
            raise ValueError("0 <= tpe_share <= 1 and a whole number of trials, or None, are accepted")
        self.tpe_share = tpe_share
        self.evidence = evidence
        self.trials = trials
        self.beside = beside
        self.encoding = Encoding(self.domain)

    def check(self, study: Study) -> None:
        """`InputError` for a study of several objectives."""
        check_one_objective(self, study)

    def propose(self, study: Study, trial: FrozenTrial, known: History, rng: random.Random) -> Point:
        """A random point at first; then the point with the greatest expected improvement, or TPE's."""
        taught = known.lessons
        started = len(taught.y) + len(taught.in_flight) >= START and len(taught.y) >= 2
        if not started and len(self.evidence) < START:
            return self.domain.draw(rng)
        if started and rng.random() < self.tpe_share:
            return super().propose(study, trial, known, rng)
        return self.best_of_pool(self._beside_evidence(taught), known.taken, rng)

    def replicate(self, trial: FrozenTrial, known: History, new: Point | None, used_up: bool) -> FrozenTrial | None:
        """In the second half of a known number of trials, the trial whose point's next score would tell most, where it
        tells more than that of the new point; in the last tenth, and where the space is used up before, always. A point
        of which three evaluations failed or were stopped is left alone: the next would be lost too."""
        if used_up:
            wanted = trial.number < (self.trials or 0)
        else:
            wanted = (is_replicate if new is None else may_be_replicate)(trial.number, self.trials)
        if not wanted or not len(known.lessons.y):
            return None
        model, rows = self._model(known.lessons)
        ranked, states = self._rank(known, model, rows), zip(known.keys, known.trials, strict=True)
        lost = Counter(key for key, one in states if one.state in (TrialState.FAIL, TrialState.PRUNED))
        ranked = [one for one in ranked if lost[self.domain.key(one.params)] < LOST][:COMPARED]
        if not ranked:
            return None
        points = [*(one.params for one in ranked), *([] if new is None else [new])]
        best = int(np.argmax(knowledge_gradient(*model.joint(rows(points)), model.noise)))
        return ranked[best] if best < len(ranked) else None

    def winner(self, study: Study) -> FrozenTrial:
        """The first trial of the point whose expected score is the best, of all points with a complete trial.

        What is expected of a point follows from all its evaluations and from its neighbours; what is known `beside` is
        added. Raises `ValueError` before a trial is complete.
        """
        self.check(study)
        known = self._history(study)
        ranked = self._rank(known, *self._model(known.lessons)) if len(known.lessons.y) else []
        if not ranked:
            raise ValueError("no trial of the study is complete yet")
        found = trial_of_number(study, ranked[0].number)
        assert found is not None
        return copy.deepcopy(found)

    def _rank(self, known: History, model: Surrogate, rows: ReadPoints) -> list[FrozenTrial]:
        """The first complete trial of every point, by the score that is expected of the point, the best first. Of
        points that violate constraints of the study, only where all do, those with the least; of many points, those
        with the best first scores."""
        states = zip(known.keys, known.trials, strict=True)
        complete = [(key, t) for key, t in states if t.state == TrialState.COMPLETE and math.isfinite(t.values[0])]
        outside = [violation(trial) for _, trial in complete]
        least = min(outside, default=0.0)
        first: dict[Key, FrozenTrial] = {}
        for (key, trial), by in zip(complete, outside, strict=True):
            if by <= least:
                first.setdefault(key, trial)
        if not first:
            return []
        trials = list(first.values())
        if len(trials) > LEARNT:
            trials = sorted(trials, key=lambda trial: trial.values[0], reverse=known.maximize)[:LEARNT]
        read = rows([trial.params for trial in trials])
        expected = model.predict(read)[0] + read.beside
        return [trial for _, trial in sorted(zip(-expected, trials, strict=True), key=lambda pair: pair[0])]

    def _beside_evidence(self, taught: Observations) -> Observations:
        """The evidence and the lessons as one. A study that begins where others ended is not average from its start."""
        if not self.evidence:
            return taught
        points = [one.point for one in self.evidence]
        y, unsure = (np.array([getattr(one, name) for one in self.evidence]) for name in ("y", "unsure"))
        ours = taught.y
        if len(ours):
            model, rows = self._model(Observations(points, y, unsure, []))
            ours = ours + model.predict(rows(taught.points))[0].mean()
        together = np.concatenate([y, ours])
        return Observations(
            [*points, *taught.points],
            together - together.mean(),
            np.concatenate([unsure, taught.unsure]),
            taught.in_flight,
        )

    def best_of_pool(self, taught: Observations, taken: Collection[Key], rng: random.Random) -> Point:
        """The most promising of some hundred points: children of the best, then children of the most promising."""
        model, rows = self._model(taught)
        order = np.argsort(-(taught.y + model.rows.beside[: len(taught.y)]))[:PARENTS]
        best = [taught.points[i] for i in order]
        parents: list[Point] = [self.domain.repair(point, rng) or point for point in best]  # evidence may be outside
        scored: dict[Key, tuple[float, Point]] = {}
        for _ in range(ROUNDS):
            new = list(self._children(parents, taken, scored, rng))
            if new:
                values = model.improvement(rows(new))
                scored.update((self.domain.key(p), (float(v), p)) for v, p in zip(values, new, strict=True))
            ranked = sorted(scored.values(), key=lambda pair: -pair[0])[:PARENTS]
            parents = [p for _, p in ranked] or parents
        return parents[0]

    def _model(self, taught: Observations) -> tuple[Surrogate, ReadPoints]:
        """The fitted process, and how it reads points. What is in flight is believed to score its mean."""
        known = self._read_known(taught.points)
        middle, spread = known.mean(0), known.std(0)
        spread[spread == 0] = 1.0

        def rows(points: Sequence[Point]) -> Rows:
            known = self._read_known(points)
            beside = known[:, 1] if self.beside else np.zeros(len(points))
            return Rows(self.encoding(points), (known - middle) / spread, beside)

        exact = np.flatnonzero(taught.unsure == 0)
        level = noise_variance([self.domain.key(taught.points[i]) for i in exact], taught.y[exact], NOISE)
        seen, noise = rows(taught.points), level + taught.unsure**2
        kernel = Kernel(self.encoding.weights, len(middle))
        chosen = np.argsort(-taught.y)[: FITTED // 2]
        chosen = np.union1d(chosen, np.arange(len(taught.y))[-(FITTED - len(chosen)) :])
        kernel.fit(Rows(*(part[chosen] for part in seen)), taught.y[chosen], noise[chosen])
        model = Surrogate(kernel, seen, taught.y, noise)
        if taught.in_flight:
            waiting = rows(taught.in_flight)
            believed = Rows(*(np.concatenate(parts) for parts in zip(seen, waiting, strict=True)))
            y = np.concatenate([taught.y, model.predict(waiting)[0]])
            model = Surrogate(kernel, believed, y, np.concatenate([noise, np.full(len(waiting.beside), level)]))
        return model, rows

    def _read_known(self, points: Sequence[Point]) -> Array:
        """What is known of points before they are evaluated, a row each: the logarithm of the cost, and what is known
        beside the outcome."""
        columns = [self.encoding.log_costs(points)]
        if self.beside:
            columns.append(np.array([self.beside(dict(point)) for point in points]))
        return np.column_stack(columns)

    def _children(
        self, parents: list[Point], taken: Collection[Key], scored: Collection[Key], rng: random.Random
    ) -> Iterable[Point]:
        """New points inside the budget near the parents; some of those outside are repaired."""
        repairs, made = REPAIRS, set[Key]()
        for _ in range(CHILDREN):
            child = self._child(parents, rng)
            if repairs and not self.domain.inside(child):
                repairs -= 1
                child = self.domain.repair(child, rng) or child
            key = self.domain.key(child)
            if key not in taken and key not in scored and key not in made and self.domain.inside(child):
                made.add(key)
                yield child

    def _child(self, parents: list[Point], rng: random.Random) -> Point:
        child = dict(rng.choice(parents))
        if rng.random() < CROSSOVER:
            other = rng.choice(parents)
            child = {name: value if rng.random() < 0.5 else other[name] for name, value in child.items()}
        rate = rng.choice((0.5, 1.0, 2.0, 3.0)) / max(len(self.encoding.names), 1)
        for name in self.encoding.names:
            if rng.random() < rate:
                child[name] = self.domain.choices[name].draw(rng)
        return child
