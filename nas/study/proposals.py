"""What is asked next: what was interrupted, then known networks, then random ones, then what the sampler proposes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.samplers import ExhaustedError
from nas.samplers import optuna_private as private
from nas.samplers.point_sampler import copy_trial
from nas.study import objectives
from nas.study.design import Design
from nas.study.records import LEARNT_FROM, costs_of, digest_of, gain_of, is_interrupted, training_of, trial_of
from nas.trial import Final, Role
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.space.space import FIT_BAND, REMEMBERED, Candidate, Point, Space
from searchspace.space.textbook import textbook

PROPOSALS = 30
DRAWS = 1000
SHOWN, BEST_SHOWN = 1000, 200  # trials that a sampler is shown, and how many of them for being the best of the others


class Proposal(NamedTuple):
    """What is asked next, and as what; a baseline by its name. `final` is what a training of the finals is."""

    candidate: Candidate
    role: Role
    baseline: str = ""
    share: float = 1.0
    final: Final | None = None


def check_distinct(choices: Mapping[str, Sequence[Any]]) -> None:
    """`InputError` for choices of which two are equal, as 6 and 6.0: no trial's record would tell them apart."""
    for name, options in choices.items():
        equal = next(((a, b) for i, a in enumerate(options) for b in options[:i] if a == b), None)
        if equal:
            raise InputError(f"{name}: choices that differ are accepted, and {equal[1]!r} equals {equal[0]!r}")


class WaitingError(RuntimeError):
    """What is asked next depends on trials that run."""


class Chooser(Protocol):
    """Says which of so many draws is trained."""

    draws: int

    def best(self, candidates: Sequence[Candidate]) -> int: ...


class Proposals:
    """Candidates inside a budget, none twice: a function of the seed and of the trials so far."""

    def __init__(self, design: Design) -> None:
        self.design, self.space, self.budget, self.seed = design, design.space, design.budget, design.seed
        self.band, self.minimize = design.band, design.minimize
        self.choices: dict[str, tuple[Any, ...]] = dict(self.space.choices)
        if self.minimize:
            self.choices[objectives.SHARE] = objectives.shares(self.budget)
        check_distinct(self.choices)
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in self.choices.items()
        }
        self._used: dict[tuple[Any, ...], float] = {}
        self.screen: Chooser | None = None

    def next(self, trials: list[FrozenTrial]) -> Proposal:
        """After these trials. Raises `ExhaustedError` where nothing new is left."""
        real = [trial for trial in trials if not is_interrupted(trial)]
        return self._next_interrupted(trials) or self._next_baseline(real) or self._next_new(real)

    def _next_interrupted(self, trials: list[FrozenTrial]) -> Proposal | None:
        """The first network whose trial was interrupted and has not been asked again since."""
        first = next(iter(waiting(trials)), None)
        if first is None:
            return None
        known = trial_of(first)
        candidate = Candidate(known.point, known.arch, known.cost, known.width_mult, known.settled)
        share = first.params.get(objectives.SHARE, 1.0)
        return Proposal(candidate, known.role, known.baseline, share, known.final)

    def _next_baseline(self, trials: list[FrozenTrial]) -> Proposal | None:
        """The first textbook network that was not asked yet and fits the budget, scaled in width."""
        asked = sum(trial.user_attrs["role"] == "baseline" for trial in trials) if self.design.baselines else 0
        if asked >= self.design.baselines:
            return None
        seen = {digest_of(trial) for trial in trials}
        known = baselines_within(self.space, self.budget, self.band, self.minimize)
        return next((found for found in known if found.candidate.arch.digest not in seen), None)

    def _next_new(self, trials: list[FrozenTrial]) -> Proposal:
        controls = sum(trial.user_attrs["role"] == "control" for trial in trials)
        role: Role = "control" if controls < self.design.controls else "search"
        return self._propose(role, trials)

    def _propose(self, role: Role, trials: list[FrozenTrial]) -> Proposal:
        """A new candidate: random for a control, else from the sampler; random again where that only repeats.

        Where they are screened, the best of several that the sampler proposes. The random draws that remain then may
        use less of the budget, so that a space ends when nothing new is inside.
        """
        seen = {digest_of(trial) for trial in trials}
        found: list[Proposal] = []
        wanted = self.screen.draws if self.screen and role == "search" else 1
        for attempt in range(PROPOSALS + DRAWS):
            draw = random.Random(f"{self.seed} {len(trials)} {attempt}")
            if role == "search" and attempt < PROPOSALS:
                try:
                    point: Point = self._suggest(draw.getrandbits(32), trials)
                except ExhaustedError:
                    point = self._random_point(draw)
            else:
                point = self._random_point(draw)
            band = self.band if attempt < PROPOSALS + DRAWS // 2 else 0.0
            share, point = self._split_point(point)
            candidate = self.space.fit(point, self.budget.scale(share), band, draw.getrandbits(32))
            if candidate is not None and candidate.arch.digest not in seen:
                found.append(Proposal(candidate, role, share=share))
                seen.add(candidate.arch.digest)
            if len(found) == wanted or (found and attempt >= PROPOSALS):
                break
        if found:
            choose = self.screen.best if self.screen and len(found) > 1 else lambda candidates: 0
            return found[choose([proposal.candidate for proposal in found])]
        raise ExhaustedError(
            f"nothing new inside {self.budget} was found in {PROPOSALS + DRAWS} draws from {self.space.source}"
        )

    def _suggest(self, seed: int, trials: list[FrozenTrial]) -> Mapping[str, Any]:
        """A full point from a fresh sampler that is shown the history."""
        trials = _failures_as_bad(_telling([trial for trial in trials if trial.params]))
        scratch = optuna.create_study(direction="maximize", sampler=self.make_sampler(seed))
        for trial in self._in_one_number(trials, seed) if self.minimize else trials:
            private.storage_of(scratch).create_new_trial(
                private.study_id(scratch), copy_trial(trial, trial.params, self.distributions)
            )
        return scratch.ask(self.distributions).params

    def make_sampler(self, seed: int) -> BaseSampler:
        """The design's sampler, told what points cost.

        Where the width is solved for, that is what they cost at the least width: `fit` would change a point that is too
        dear even there, and the cheaper it is, the wider its network will be. That is asked of many hundred points, so
        only where it is counted fast; samplers of the user's own then see no cost.
        """
        make = self.design.make_sampler
        if self.space.fit_range is None:
            return make(self.choices, self._share, 1.0, seed)
        if self.space.counts_alone(self.budget) and not callable(self.design.sampler):
            return make(self.choices, self._share, 1.0, seed, low=0.0)
        return make(self.choices, None, None, seed)

    def _in_one_number(self, trials: list[FrozenTrial], seed: int) -> list[FrozenTrial]:
        """The trials with score and costs made one number, in a direction that the seed decides."""
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not complete:
            return trials
        scores = [trial.values[0] for trial in complete]
        number = objectives.scalarisation(scores, [costs_of(trial) for trial in complete], random.Random(seed))
        made = []
        for trial in trials:
            one, spent = copy_trial(trial, trial.params, self.distributions), costs_of(trial)
            one.values = [number(trial.values[0], spent)] if trial.values else None
            one.intermediate_values = {step: number(score, spent) for step, score in trial.intermediate_values.items()}
            made.append(one)
        return list(made)

    def _random_point(self, rng: random.Random) -> dict[str, Any]:
        point: dict[str, Any] = self.space.random_point(rng)
        if self.minimize:
            point[objectives.SHARE] = rng.choice(self.choices[objectives.SHARE])
        return point

    def _split_point(self, point: Mapping[str, Any]) -> tuple[float, Point]:
        """The share of the budget that a point is fitted to, and the point of the space."""
        return point.get(objectives.SHARE, 1.0), {name: point[name] for name in self.space.choices}

    def _share(self, point: Mapping[str, Any]) -> float:
        """The part that a point uses of its share of the budget, at the least width where that is solved for.
        Remembered: a proposal asks for hundreds."""
        key = tuple(point.values())
        if key not in self._used:
            if len(self._used) >= REMEMBERED:
                self._used.clear()
            share, of_space = self._split_point(point)
            width = self.space.fit_range[0] if self.space.fit_range else None
            spent = self.space.cost(of_space, width, self.space.latency_table(self.budget), self.budget.limits_own)
            self._used[key] = self.budget.share_used(spent) / share
        return self._used[key]


def _telling(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that a sampler is shown: of a long history the best and the latest, so that an ask costs no more."""
    if len(trials) <= SHOWN:
        return trials
    earlier = [trial for trial in trials[: BEST_SHOWN - SHOWN] if trial.state == TrialState.COMPLETE]
    best = sorted(earlier, key=lambda trial: -trial.values[0])[:BEST_SHOWN]
    return sorted(best, key=lambda trial: trial.number) + trials[BEST_SHOWN - SHOWN :]


def _failures_as_bad(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """The trials with those that failed as complete, as bad as the worst: no sampler learns from failures themselves,
    and would ask where they are again and again."""
    scores = [gain_of(trial) for trial in trials if trial.state in LEARNT_FROM]
    worst = min((score for score in scores if score is not None), default=0.0)

    def as_worst(trial: FrozenTrial) -> FrozenTrial:
        if trial.state != TrialState.FAIL:
            return trial
        bad = copy_trial(trial, trial.params, trial.distributions)
        bad.state, bad.values, bad.intermediate_values = TrialState.COMPLETE, [worst], {}
        bad.user_attrs = trial.user_attrs
        return bad

    return [as_worst(trial) for trial in trials]


def waiting(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The interrupted trials whose networks were not asked again since."""
    interrupted = [trial for trial in trials if is_interrupted(trial)]
    if not interrupted:
        return []
    last = {training_of(trial): trial for trial in trials}
    return [trial for trial in interrupted if last[training_of(trial)] is trial]


def baselines_within(
    space: Space, budget: Budget, band: float = FIT_BAND, minimize: Sequence[str] = ()
) -> Iterator[Proposal]:
    """The textbook networks at a budget: those that are points of the space, then those that are not. Where latency is
    minimised, it has to be known of them."""
    yield from known_within(space, budget, band)
    for name, candidate in textbook(space, budget, band):
        if "latency" not in minimize or candidate.cost.latency_ms is not None:
            yield Proposal(candidate._replace(point={}), "baseline", name)


def known_within(space: Space, budget: Budget, band: float = FIT_BAND) -> Iterator[Proposal]:
    """The known networks of a space that fit a budget with no choice changed, in the order of its file.

    Where widths are not solved for, one that uses any share of the budget fits (see `Space.fit_known`).
    """
    for name in space.known:
        candidate = space.fit_known(name, budget, band)
        if candidate is not None:
            yield Proposal(candidate, "baseline", name)
