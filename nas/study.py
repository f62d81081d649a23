"""`Study`: ask for networks inside a budget, tell what they scored, resume, best, front. The Optuna door.

The study in the run folder is the single source of truth: every trial carries its network, so the study alone can
rebuild everything. A trial is recorded with all its parameters at once, before it runs. A trial whose run died is
closed as failed ("interrupted") and its network is asked again, as a new trial that takes its place.
"""

from __future__ import annotations

import json
import math
import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import optuna
from optuna._hypervolume import compute_hypervolume
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from nas import objectives
from nas.samplers import SAMPLERS, Predictor
from nas.samplers import ExhaustedError as ExhaustedError
from nas.samplers.lessons import Evidence
from nas.samplers.proposing import replayed
from nas.trial import Outcome, Result, Role, Trial
from searchspace.arch import Arch
from searchspace.budget import Budget, Cost
from searchspace.errors import InputError
from searchspace.space import FIT_BAND, Candidate, Point, Space
from searchspace.table import summary

NAME, FILE = "search", "study.db"
INTERRUPTED = "interrupted"
ENDS: dict[TrialState, Literal["complete", "pruned", "failed"]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)
LOCK_TIMEOUT_S = 60
PROPOSALS = 30
DRAWS = 1000
RETRIES = 2


class Proposal(NamedTuple):
    """What is asked next, and as what; a baseline by its name."""

    candidate: Candidate
    role: Role
    baseline: str = ""
    share: float = 1.0


class Study:
    """Trials of one space under one budget, kept in `RUN/study.db`.

    Everything that `ask` returns is inside the budget and was not asked before; given the same history, the same seed
    proposes the same networks, also after a restart.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        budget: Budget,
        sampler: str = "auto",
        seed: int = 0,
        band: float = FIT_BAND,
        controls: int = 8,
        baselines: int = 0,
        evidence: Sequence[Evidence] = (),
        minimize: Sequence[str] = (),
    ) -> None:
        self.optuna = study
        self.space, self.budget, self.seed, self.band = space, budget, seed, band
        self.controls, self.baselines = controls, baselines
        self.minimize = objectives.check(minimize)
        self.choices: dict[str, tuple[Any, ...]] = dict(space.choices)
        if self.minimize:
            self.choices[objectives.SHARE] = objectives.shares(budget)
        self._sampler = partial(Predictor, evidence=evidence) if evidence else SAMPLERS[sampler]
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(options) for name, options in self.choices.items()
        }
        self._used: dict[tuple[Any, ...], float] = {}

    @classmethod
    def open(
        cls,
        run: str | Path,
        space: Space,
        budget: Budget,
        sampler: str = "auto",
        seed: int = 0,
        band: float = FIT_BAND,
        controls: int = 8,
        baselines: int = 0,
        evidence: Sequence[Evidence] = (),
        minimize: Sequence[str] = (),
    ) -> Study:
        """The study of a run folder, made where there is none. What a dead run left running is closed and queued.

        The first trials are known networks of the space, at most `baselines`, then as many random ones as `controls`.
        `evidence` of earlier studies teaches the predictor. Costs to `minimize` beside accuracy (see `objectives`) make
        the search seek a front, over smaller shares of the budget too.
        Raises `InputError` for an unknown sampler, one that evidence cannot teach, or a folder whose study has another
        space or budget.
        """
        if sampler not in SAMPLERS:
            raise InputError(f"sampler {sampler!r}: {', '.join(SAMPLERS)} is accepted")
        if minimize and evidence:
            raise InputError("minimize: a warm start teaches accuracy alone; give one of the two")
        if evidence and SAMPLERS[sampler] is not Predictor:
            raise InputError(f"warm-start: teaches the sampler predictor (or auto), not {sampler}")
        folder = Path(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"run folder {folder}: cannot be made ({error.strerror})") from None
        storage = database(folder)
        found = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
        identity: dict[str, Any] = {"space": space.data, "budget": str(budget)}
        if minimize:
            identity["minimize"] = list(objectives.check(minimize))
        known = found.user_attrs.get("identity")
        if known is None:
            found.set_user_attr("identity", identity)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                found.set_metric_names(["validation accuracy"])
        elif json.dumps(known, sort_keys=True) != json.dumps(identity, sort_keys=True):
            raise InputError(f"run folder {folder}: holds a study of another space or budget ({known['budget']})")
        study = cls(found, space, budget, sampler, seed, band, controls, baselines, evidence, minimize)
        study.close_interrupted()
        return study

    def ask(self) -> Trial:
        """The next network to train, recorded as running. Raises `ExhaustedError` where nothing new is left."""
        trials = self.trials
        real = [trial for trial in trials if not _interrupted(trial)]
        candidate, role, baseline, share = (
            self._next_interrupted(trials) or self._next_baseline(real) or self._next_new(real)
        )
        arch, cost = candidate.arch, candidate.cost
        attributes: dict[str, Any] = {
            "role": role,
            "baseline": baseline,
            "digest": arch.digest,
            "macs": cost.macs,
            "params": cost.params,
            "activations": cost.activations,
            "peak_memory_mb": cost.peak_memory_mb,
            "predicted_ms": cost.latency_ms,
            "width_mult": candidate.width_mult,
            "network": summary(arch),
            "arch": json.dumps(arch.to_dict()),
        }
        params = dict(candidate.point)
        if self.minimize:
            attributes["minimize"] = objectives.costs(cost, self.minimize)
            params[objectives.SHARE] = share
        frozen = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self._distributions,
            user_attrs=attributes,
        )
        self.optuna.add_trial(frozen)
        recorded = next(t for t in reversed(self.trials) if t.user_attrs.get("digest") == arch.digest)
        return Trial(recorded.number, arch, cost, role, dict(candidate.point), candidate.width_mult, baseline)

    def report(self, trial: Trial, result: Result) -> None:
        """Keep one epoch's score: a point of the learning curve."""
        live = self._live(trial.number)
        live.report(result.accuracy, result.epoch)
        for name in ("loss", "train_loss", "images_per_s", "seconds", "latency_ms"):
            live.set_user_attr(name, getattr(result, name))

    def tell(
        self, trial: Trial, accuracy: float | None = None, *, error: str = "", pruned: bool = False, **attributes: Any
    ) -> None:
        """Close a trial: with its final accuracy, as stopped early (`pruned`), or as failed with the reason."""
        live = self._live(trial.number)
        for name, attribute in attributes.items():
            live.set_user_attr(name, attribute)
        if not error and not pruned and (accuracy is None or not math.isfinite(accuracy)):
            error = f"accuracy is {accuracy}"
        if error:
            live.set_user_attr("error", error)
            self.optuna.tell(trial.number, state=TrialState.FAIL)
        elif pruned:
            self.optuna.tell(trial.number, state=TrialState.PRUNED)
        else:
            self.optuna.tell(trial.number, accuracy)

    def interrupt(self, trial: Trial) -> bool:
        """Close a trial whose worker died; its network is asked again, unless it took a worker with it before.

        True where it will be asked again; else it failed.
        """
        before = sum(_interrupted(known) and digest_of(known) == trial.digest for known in self.trials)
        self.tell(trial, error=INTERRUPTED if before < RETRIES else f"its worker died {before + 1} times")
        return before < RETRIES

    def close_interrupted(self) -> int:
        """Close what is recorded as running though nothing runs it; its networks are asked again first."""
        running = [trial for trial in self.trials if trial.state == TrialState.RUNNING]
        for trial in running:
            self._live(trial.number).set_user_attr("error", INTERRUPTED)
            self.optuna.tell(trial.number, state=TrialState.FAIL)
        return len(running)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False)

    @property
    def outcomes(self) -> list[Outcome]:
        return outcomes(self.optuna)

    @property
    def validation_images(self) -> int:
        """How many images every accuracy was measured on; 0 before the first run."""
        return int(self.optuna.user_attrs.get("validation_images", 0))

    @validation_images.setter
    def validation_images(self, number: int) -> None:
        self.optuna.set_user_attr("validation_images", number)

    @property
    def finished(self) -> int:
        """How many trials have an outcome: complete, pruned or failed by their own fault."""
        return sum(trial.state.is_finished() and not _interrupted(trial) for trial in self.trials)

    @property
    def ranked(self) -> list[FrozenTrial]:
        """Complete trials, best first; of equal accuracy the one with the lower validation loss."""
        return ranked(self.optuna)

    @property
    def best(self) -> Trial:
        """The best complete trial; `LookupError` where there is none yet."""
        ranked = self.ranked
        if not ranked:
            raise LookupError("no trial is complete yet")
        return record(ranked[0])

    def front(self) -> list[Trial]:
        """Complete trials that no other beats in accuracy and minimised costs (else multiply-adds), cheapest first."""
        trials = self.ranked
        costly = [_costs(trial) or [trial.user_attrs["macs"]] for trial in trials]
        return [record(trials[i]) for i in objectives.front([t.value or 0.0 for t in trials], costly)]

    @property
    def latencies(self) -> dict[int, float]:
        """Milliseconds measured of the best networks when nothing else ran, by trial; empty before a run's end."""
        return latencies(self.optuna)

    @latencies.setter
    def latencies(self, measured: Mapping[int, float]) -> None:
        self.optuna.set_user_attr("measured_ms", {str(number): ms for number, ms in measured.items()})

    def _live(self, number: int) -> optuna.Trial:
        """The handle on a running trial that Optuna gives for `ask`, here for one that was added."""
        return optuna.Trial(self.optuna, self.trials[number]._trial_id)

    def _next_interrupted(self, trials: list[FrozenTrial]) -> Proposal | None:
        """The first network whose trial was interrupted and has not been asked again since."""
        last = {trial.user_attrs.get("digest"): trial for trial in trials}
        waiting = next((trial for trial in trials if _interrupted(trial) and last[digest_of(trial)] is trial), None)
        if waiting is None:
            return None
        known = record(waiting)
        candidate = Candidate(known.point, known.arch, known.cost, known.width_mult)
        return Proposal(candidate, known.role, known.baseline, waiting.params.get(objectives.SHARE, 1.0))

    def _next_baseline(self, trials: list[FrozenTrial]) -> Proposal | None:
        """The first known network that was not asked yet and fits the budget as it is, scaled in width where it can."""
        asked = [trial for trial in trials if trial.user_attrs["role"] == "baseline"]
        if len(asked) >= self.baselines:
            return None
        seen = {digest_of(trial) for trial in trials}
        known = known_within(self.space, self.budget, self.band)
        return next((found for found in known if found.candidate.arch.digest not in seen), None)

    def _next_new(self, trials: list[FrozenTrial]) -> Proposal:
        controls = sum(trial.user_attrs["role"] == "control" for trial in trials)
        role: Role = "control" if controls < self.controls else "search"
        return self._propose(role, trials)

    def _propose(self, role: Role, trials: list[FrozenTrial]) -> Proposal:
        """A new candidate: random for a control, else from the sampler; random again where that only repeats.

        The random draws that remain then may use less of the budget, so that a space ends when nothing new is inside.
        """
        seen = {digest_of(trial) for trial in trials}
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
            share, point = self._split(point)
            candidate = self.space.fit(point, self.budget.scaled(share), band, draw.getrandbits(32))
            if candidate is not None and candidate.arch.digest not in seen:
                return Proposal(candidate, role, share=share)
        raise ExhaustedError(
            f"nothing new inside {self.budget} was found in {PROPOSALS + DRAWS} draws from {self.space.source}"
        )

    def _suggest(self, seed: int, trials: list[FrozenTrial]) -> Mapping[str, Any]:
        """A full point from a fresh sampler that is shown the history.

        It is told what points cost where `fit` would change a point that is too dear; where the width is solved for,
        every point costs the same.
        """
        priced = self.space.fit_range is None
        cost, budget = (self._share, 1.0) if priced else (None, None)
        sampler = self._sampler(self.choices, cost, budget, seed)
        scratch = optuna.create_study(direction="maximize", sampler=sampler)
        for trial in self._in_one_number(trials, seed) if self.minimize else trials:
            scratch._storage.create_new_trial(scratch._study_id, replayed(trial, trial.params, self._distributions))
        return scratch.ask(self._distributions).params

    def _in_one_number(self, trials: list[FrozenTrial], seed: int) -> list[FrozenTrial]:
        """The trials with accuracy and costs made one number, in a direction that the seed decides."""
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if not complete:
            return trials
        told = [trial.values[0] for trial in complete]
        number = objectives.scalarisation(told, [_costs(trial) for trial in complete], random.Random(seed))
        made = []
        for trial in trials:
            one, spent = replayed(trial, trial.params, self._distributions), _costs(trial)
            one.values = [number(trial.values[0], spent)] if trial.values else None
            one.intermediate_values = {step: number(score, spent) for step, score in trial.intermediate_values.items()}
            made.append(one)
        return list(made)

    def _random_point(self, rng: random.Random) -> dict[str, Any]:
        point: dict[str, Any] = self.space.random_point(rng)
        if self.minimize:
            point[objectives.SHARE] = rng.choice(self.choices[objectives.SHARE])
        return point

    def _split(self, point: Mapping[str, Any]) -> tuple[float, Point]:
        """The share of the budget that a point is fitted to, and the point of the space."""
        return point.get(objectives.SHARE, 1.0), {name: point[name] for name in self.space.choices}

    def _share(self, point: Mapping[str, Any]) -> float:
        """The part that a point uses of its share of the budget, remembered: a proposal asks for hundreds."""
        key = tuple(point.values())
        if key not in self._used:
            share, of_space = self._split(point)
            spent = self.space.cost(of_space, latency=self.space.clock(self.budget))
            self._used[key] = self.budget.used(spent) / share
        return self._used[key]


def known_within(space: Space, budget: Budget, band: float = FIT_BAND) -> Iterator[Proposal]:
    """The known networks of a space that fit a budget with no choice changed, in the order of its file.

    Where widths are not solved for, one that uses any share of the budget fits.
    """
    for name, point in space.known.items():
        candidate = space.fit(point, budget, band if space.fit_range else 0.0)
        if candidate is not None and candidate.point == point:
            yield Proposal(candidate, "baseline", name)


def adopted(trials: Iterable[FrozenTrial], old: Space, new: Space) -> list[FrozenTrial]:
    """The trials of a study of the old space that are whole points of the new one, as trials of that."""
    kinds: dict[str, BaseDistribution] = {n: CategoricalDistribution(options) for n, options in new.choices.items()}
    points = [(trial, new.adopted(old, trial.params)) for trial in trials if trial.state in LEARNT_FROM]
    return [replayed(trial, point, kinds) for trial, point in points if point is not None]


def database(folder: Path) -> optuna.storages.RDBStorage:
    """The run's storage. SQLite in write-ahead mode: a dashboard may read while the search writes."""
    import sqlalchemy.event
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = folder / FILE
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": LOCK_TIMEOUT_S}}
        )
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    except (SQLAlchemyError, OSError, RuntimeError) as error:
        raise InputError(f"{path}: not a study that can be opened ({' '.join(str(error).split())[:120]})") from None
    sqlalchemy.event.listen(storage.engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=NORMAL"))
    return storage


def load(run: str | Path) -> optuna.Study:
    """The Optuna study of a run folder, as it is, without closing or queueing anything."""
    folder = Path(run)
    if not (folder / FILE).is_file():
        raise InputError(f"{folder}: no run folder (it has no {FILE}); give the folder of a search")
    try:
        return optuna.load_study(study_name=NAME, storage=database(folder))
    except KeyError:
        raise InputError(f"{folder / FILE}: holds no search") from None


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials (all are inside the budget), best first; see `Study.ranked`."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return sorted(complete, key=lambda t: (-(t.value or 0.0), t.user_attrs.get("loss", math.inf), t.number))


def outcomes(study: optuna.Study) -> list[Outcome]:
    """Every trial but the interrupted ones, whose networks have trials of their own again."""
    alone = latencies(study)
    return [outcome(trial, alone) for trial in study.get_trials(deepcopy=False) if not _interrupted(trial)]


def latencies(study: optuna.Study) -> dict[int, float]:
    """See `Study.latencies`: kept with the study, since a finished trial takes no more attributes."""
    return {int(number): ms for number, ms in study.user_attrs.get("measured_ms", {}).items()}


def outcome(trial: FrozenTrial, alone: Mapping[int, float]) -> Outcome:
    """How a trial ended, with what was measured of it; `alone` are the study's `latencies`."""
    curve = dict(trial.intermediate_values)
    accuracy = trial.value if trial.values else curve.get(max(curve, default=0))
    measured = {**trial.user_attrs, "measured_ms": alone.get(trial.number)}
    return Outcome(trial.number, ENDS.get(trial.state, "running"), accuracy, curve, trial.params, measured)


def record(trial: FrozenTrial) -> Trial:
    """A stored trial as the record that workers and reports know."""
    attributes = trial.user_attrs
    arch = Arch.from_dict(json.loads(attributes["arch"]), f"trial {trial.number}")
    return Trial(
        number=trial.number,
        arch=arch,
        cost=cost_of(trial),
        role=attributes["role"],
        point={name: value for name, value in trial.params.items() if name != objectives.SHARE},
        width_mult=attributes["width_mult"],
        baseline=attributes.get("baseline", ""),
    )


def hypervolumes(trials: Sequence[Outcome], names: Sequence[str], budget: Budget) -> list[tuple[int, float]]:
    """Trial by trial, the share of the box from accuracy 0 and the budget to accuracy 1 and cost 0 that is beaten.

    Where the budget does not limit a currency, the dearest trial takes its place.
    """
    complete = [t for t in trials if t.outcome == "complete" and t.accuracy is not None]
    costly = [[t.measured["minimize"][name] for name in names] for t in complete]
    most = np.array(objectives.reference(budget, names, costly))
    losses = [[1 - (t.accuracy or 0.0), *(np.array(row) / most)] for t, row in zip(complete, costly, strict=True)]
    corner = np.ones(1 + len(names))
    return [(t.number, compute_hypervolume(np.array(losses[: i + 1]), corner)) for i, t in enumerate(complete)]


def cost_of(trial: FrozenTrial) -> Cost:
    a = trial.user_attrs
    return Cost(a["macs"], a["params"], a["activations"], round(a["peak_memory_mb"] * 1e6), a.get("predicted_ms"))


def _costs(trial: FrozenTrial) -> list[float]:
    """What a trial's network costs in all that is minimised, in the order of the study."""
    return list(trial.user_attrs.get("minimize", {}).values())


def digest_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs["digest"])


def _interrupted(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.FAIL and trial.user_attrs.get("error") == INTERRUPTED
