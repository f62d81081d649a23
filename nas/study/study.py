"""`Study`: ask for networks inside a budget, tell what they scored, resume, best, front. The Optuna door.

The study in the run folder is the single source of truth: every trial carries its network, so the study alone can
rebuild everything. A trial is recorded with all its parameters at once, before it runs. A trial whose run died is
closed as failed ("interrupted") and its network is asked again, as a new trial that takes its place.

One `Study` at a time writes in a run folder, from any number of threads; others read it with `Study.read`. Several
drivers, each with a folder of its own, may share a study in a database server.
"""

from __future__ import annotations

import json
import math
import os
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, SupportsFloat

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.config import differences, same_images
from nas.samplers import SAMPLERS, Predictor
from nas.samplers import ExhaustedError as ExhaustedError
from nas.samplers.observations import PriorObservation
from nas.study import lock, objectives, records, storage
from nas.study.drivers import LostError, SharedDriver, SingleDriver
from nas.study.drivers import StorageError as StorageError
from nas.study.lock import FolderLock
from nas.study.proposals import Proposal as Proposal
from nas.study.proposals import Proposals, waiting
from nas.study.proposals import known_within as known_within
from nas.study.records import INTERRUPTED, digest_of, interrupted
from nas.study.records import adopted as adopted
from nas.study.records import hypervolumes as hypervolumes
from nas.study.records import interruption_sentences as interruption_sentences
from nas.study.records import interruptions as interruptions
from nas.study.records import latencies as latencies
from nas.study.records import outcome as outcome
from nas.study.records import outcomes as outcomes
from nas.study.records import ranked as ranked
from nas.study.records import record as record
from nas.study.storage import FILE as FILE
from nas.study.storage import HEARTBEAT_S, StudyLocation
from nas.study.storage import database as database
from nas.study.storage import load as load
from nas.trial import Outcome, Result, Trial
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.space.space import FIT_BAND, Space
from searchspace.table import summary

RETRIES = 2


class FullError(RuntimeError):
    """As many trials as were wanted have ended or run, here or elsewhere."""


class Study:
    """Trials of one space under one budget, kept in `RUN/study.db` or in a database server.

    Everything that `ask` returns is inside the budget and was not asked before; given the same history, the same seed
    proposes the same networks, also after a restart. Its methods may be called from several threads. It has the run
    folder for itself until it is closed, as at the end of a `with` block, or collected.
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
        evidence: Sequence[PriorObservation] = (),
        minimize: Sequence[str] = (),
        drivers: SingleDriver | None = None,
        read_only: bool = False,
    ) -> None:
        self.optuna, self.read_only = study, read_only
        self._lock: FolderLock | None = None
        self._release: weakref.finalize[..., Any] | None = None
        self.drivers = drivers or SingleDriver()
        self._ids: dict[int, int] = {}
        self._looked = -math.inf
        self.space, self.budget, self.band = space, budget, band
        self.minimize = objectives.check(minimize)
        self.proposals = Proposals(space, budget, sampler, seed, band, controls, baselines, evidence, minimize)

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
        evidence: Sequence[PriorObservation] = (),
        minimize: Sequence[str] = (),
        place: StudyLocation | None = None,
        identity: Mapping[str, Any] = MappingProxyType({}),
    ) -> Study:
        """The study of a run folder, made where there is none. What a dead run left running is closed and queued.

        `place` says where it is kept, where that is not in the folder, and `identity` what else has to be equal then.

        The first trials are known networks of the space, at most `baselines`, then as many random ones as `controls`.
        `evidence` of earlier studies teaches the predictor. Costs to `minimize` beside accuracy (see `objectives`) make
        the search seek a front, over smaller shares of the budget too.
        Raises `InputError` for an unknown sampler, one that evidence cannot teach, a folder whose study has another
        space or budget or has lost trials, and one in which somebody else writes: `Study.read` reads it meanwhile.
        """
        if sampler not in SAMPLERS:
            raise InputError(f"sampler {sampler!r}: {', '.join(SAMPLERS)} is accepted")
        if minimize and evidence:
            raise InputError("minimize: a warm start teaches accuracy alone; give one of the two")
        if evidence and SAMPLERS[sampler] is not Predictor:
            raise InputError(f"warm-start: teaches the sampler predictor (or auto), not {sampler}")
        folder = storage.run_folder(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = lock.take(folder)
        except InputError:
            raise
        except (OSError, ValueError) as error:  # of a path that the system does not take
            raise InputError(f"run folder {folder}: cannot be made ({getattr(error, 'strerror', error)})") from None
        try:
            study = cls._opened(
                place or StudyLocation(folder),
                space,
                budget,
                sampler,
                seed,
                band,
                controls,
                baselines,
                evidence,
                minimize,
                identity,
            )
        except BaseException:
            held.release()
            raise
        study._lock, study._release = held, weakref.finalize(study, held.release)
        try:
            study.close_abandoned()
        except BaseException:
            study.close()
            raise
        return study

    @classmethod
    def read(cls, run: str | Path) -> Study:
        """The study of a run folder to look at, also while somebody writes: it changes nothing, and keeps up."""
        found = load(run)
        identity = found.user_attrs.get("identity")
        if not isinstance(identity, dict):
            raise InputError(f"{run}: holds no search")
        space, budget = Space(identity["space"], str(run)), Budget.parse(identity["budget"])
        return cls(found, space, budget, minimize=identity.get("minimize", ()), read_only=True)

    @classmethod
    def _opened(
        cls,
        place: StudyLocation,
        space: Space,
        budget: Budget,
        sampler: str,
        seed: int,
        band: float,
        controls: int,
        baselines: int,
        evidence: Sequence[PriorObservation],
        minimize: Sequence[str],
        identity: Mapping[str, Any],
    ) -> Study:
        """The study at its place, whose folder is locked."""
        storage.holds(place)  # whole, before anything is made there
        rdb = database(place)
        try:
            found = optuna.create_study(storage=rdb, study_name=place.name, direction="maximize", load_if_exists=True)
        except Exception as error:
            raise storage.damaged(place, error) from None
        identity = {"space": space.data, "budget": str(budget), **identity}
        if minimize:
            identity["minimize"] = list(objectives.check(minimize))
        identity = json.loads(json.dumps(identity))
        storage.check(found, place)
        known = found.user_attrs.get("identity")
        if known is None:
            found.set_user_attr("begun", {"controls": controls, "baselines": baselines})
            found.set_user_attr("identity", identity)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                found.set_metric_names(["validation accuracy"])
        elif known != identity:
            changed = "; ".join(differences(known, identity)[:3])
            raise InputError(f"{place}: holds another search ({changed}); give another --run")
        if place.url:
            begun = found.user_attrs.get("begun", {})
            controls, baselines = begun.get("controls", controls), begun.get("baselines", baselines)
        drivers = SharedDriver(found, rdb, place.folder) if place.url else SingleDriver()
        return cls(found, space, budget, sampler, seed, band, controls, baselines, evidence, minimize, drivers)

    def ask(self, total: int | None = None) -> Trial:
        """The next network to train, recorded as running. Raises `ExhaustedError` where nothing new is left.

        Raises `FullError` where `total` trials have ended or run, those of other drivers too.
        """
        self._check_writer()
        return self.drivers.persist(lambda: self._ask(total))

    def _ask(self, total: int | None) -> Trial:
        with self.drivers.turn():
            if self.drivers.name:  # nobody else has a driver alone
                self._interrupt(self.drivers.abandoned(self._running))
            if total is not None and self.taken >= total:
                raise FullError
            trial = self._recorded(self.proposals.next(self.trials))
            self.drivers.take(self._ids[trial.number])
            return trial

    def template(self, proposal: Proposal) -> FrozenTrial:
        """A proposal as a running trial that is not in the study yet."""
        candidate, role, baseline, share = proposal
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
            "settled": " ".join(map(str, candidate.settled)),
            "network": summary(arch),
            "arch": json.dumps(arch.to_dict()),
        }
        if self.space.extremes:
            attributes["resolutions"] = list(self.space.extremes)
        if self.drivers.name:
            attributes["driver"] = self.drivers.name
        params = dict(candidate.point)
        if self.minimize:
            attributes["minimize"] = objectives.costs(cost, self.minimize)
            params[objectives.SHARE] = share
        return optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.proposals.distributions,
            user_attrs=attributes,
        )

    def _recorded(self, proposal: Proposal) -> Trial:
        """A proposal as a running trial of the study, in one write."""
        trial_id = self._rdb.create_new_trial(self.optuna._study_id, self.template(proposal))
        number = self._rdb.get_trial(trial_id).number
        self._ids[number] = trial_id
        (candidate, role, baseline, _) = proposal
        point, arch, cost, width_mult, settled = candidate
        return Trial(number, arch, cost, role, dict(point), width_mult, settled, baseline, self.space.extremes)

    def report(self, trial: Trial, result: Result) -> bool:
        """Keep one epoch's score: a point of the learning curve. False, with a warning, where the trial is closed."""
        self._check_writer()
        measured = {
            name: getattr(result, name) for name in ("loss", "train_loss", "images_per_s", "seconds", "latency_ms")
        }

        def write() -> None:
            trial_id = self._id(trial.number)
            self._rdb.set_trial_intermediate_value(trial_id, result.epoch, result.accuracy)
            self._annotate(trial_id, measured)

        return self._written(write) or self._refused(trial, f"accuracy {result.accuracy} of epoch {result.epoch}")

    def tell(
        self, trial: Trial, accuracy: float | None = None, *, error: str = "", pruned: bool = False, **attributes: Any
    ) -> bool:
        """Close a trial: with its final accuracy, as stopped early (`pruned`), or as failed with the reason.

        False where the trial is closed already, with a warning that its score is lost; of a study in a server without:
        another driver believed us dead, and asks its network again.
        """
        self._check_writer()
        if accuracy is not None and not isinstance(accuracy, SupportsFloat):
            raise InputError(f"accuracy: a number from 0 to 1 is accepted, not {accuracy!r}")
        accuracy = None if accuracy is None else float(accuracy)
        if accuracy is not None and not 0 <= accuracy <= 1 and math.isfinite(accuracy):
            raise InputError(f"accuracy: from 0 to 1 is accepted, not {accuracy}; another metric is not known here")
        if not error and not pruned and (accuracy is None or not math.isfinite(accuracy)):
            error = f"accuracy is {accuracy}"
        state = TrialState.FAIL if error else TrialState.PRUNED if pruned else TrialState.COMPLETE

        def write() -> None:
            self._annotate(trial_id, {**attributes, **({"error": error} if error else {})})
            scores = self._rdb.get_trial(trial_id).intermediate_values
            final = accuracy if state == TrialState.COMPLETE else scores.get(max(scores, default=0))
            values = None if final is None or state == TrialState.FAIL else [final]
            self._rdb.set_trial_state_values(trial_id, state, values)

        trial_id = self._id(trial.number)
        told = self._written(write)
        self.drivers.drop(trial_id)
        self._ids.pop(trial.number, None)
        if told or error:
            return told
        closed = self.drivers.persist(lambda: self._rdb.get_trial(trial_id))
        same = closed.state == state and (pruned or closed.value == accuracy)  # written before the server said so
        return same or self._refused(trial, f"accuracy {accuracy}")

    def interrupt(self, trial: Trial) -> bool:
        """Close a trial whose worker died; its network is asked again, unless it took a worker with it before.

        True where it will be asked again; else it failed.
        """
        self._check_writer()
        before = sum(bool(known.user_attrs.get("lost")) and digest_of(known) == trial.digest for known in self.trials)
        died = f"its worker died {before + 1} times (killed, or out of memory)"
        self.tell(trial, error=INTERRUPTED if before < RETRIES else died, lost=True)
        return before < RETRIES

    def close_abandoned(self) -> int:
        """Close what is recorded as running though nothing runs it; its networks are asked again first."""
        self._check_writer()

        def close() -> int:
            with self.drivers.turn():
                return self._interrupt(self.drivers.abandoned(self._running))

        return self.drivers.persist(close)

    def close_interrupted(self) -> int:
        """Close also what runs here: the run is over."""
        self.drivers.mine.clear()
        self._ids.clear()
        return self.close_abandoned()

    def close(self) -> None:
        """The driver ends and gives the folder back; the study stays. What runs is asked again by the next one."""
        self.drivers.close()
        rdb = getattr(self._rdb, "_backend", self._rdb)  # behind Optuna's cache
        if isinstance(rdb, optuna.storages.RDBStorage):
            rdb.remove_session()
            rdb.engine.dispose()
        if self._release and self._release.alive:
            assert self._lock
            if not self.drivers.name:
                storage.settle(self._lock.folder)
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _check_writer(self) -> None:
        """`InputError` where this is not, or no longer, the one that writes in the folder."""
        if self.read_only:
            raise InputError("the study was opened to be read; Study.open opens one to ask and tell")
        if self._release and not self._release.alive:
            raise InputError("the study is closed; Study.open opens it again")
        if self._lock and self._lock.process != os.getpid():
            raise InputError(f"run {self._lock.folder}: the process that opened the study may write, not a fork of it")

    def _refused(self, trial: Trial, what: str) -> bool:
        """Nobody but this driver closes its trials, so a script has made a mistake that costs it a score."""
        if not self.drivers.name:
            kept = self.trials[trial.number]
            ended = "interrupted" if interrupted(kept) else kept.state.name.lower()
            warnings.warn(f"trial {trial.number} is closed ({ended}): its {what} is not kept", stacklevel=3)
        return False

    def _interrupt(self, trials: Sequence[FrozenTrial]) -> int:
        for trial in trials:
            self._annotate(trial._trial_id, {"error": INTERRUPTED})
            self._rdb.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return len(trials)

    def _annotate(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        for name, attribute in attributes.items():
            self._rdb.set_trial_user_attr(trial_id, name, attribute)

    def _written(self, write: Callable[[], None]) -> bool:
        try:
            self.drivers.persist(write)
        except LostError:
            return False
        return True

    def _id(self, number: int) -> int:
        """Optuna's own number of a trial, which is not its number in the study."""
        return self._ids[number] if number in self._ids else self.trials[number]._trial_id

    @property
    def _rdb(self) -> optuna.storages.BaseStorage:
        return self.optuna._storage

    @property
    def _running(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    @property
    def waiting(self) -> list[str]:
        """The digests of networks that will be asked again."""
        return [digest_of(trial) for trial in waiting(self.trials)]

    @property
    def interrupted(self) -> dict[int, int | None]:
        """The trials that were interrupted, each with the trial that took its place; None where it waits for one."""
        return interruptions(self.trials)

    @property
    def taken(self) -> int:
        """How many trials have an outcome or run, here or elsewhere."""
        return sum(not interrupted(trial) for trial in self.trials)

    def full(self, total: int) -> bool:
        """Whether so many trials are taken. Now and then it looks for those whose driver, another, is dead."""
        if self.drivers.name and time.monotonic() - self._looked > HEARTBEAT_S:
            self._looked = time.monotonic()
            self.close_abandoned()
        return self.taken >= total

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.drivers.persist(lambda: self.optuna.get_trials(deepcopy=False))

    @property
    def outcomes(self) -> list[Outcome]:
        return self.drivers.persist(lambda: outcomes(self.optuna))

    @property
    def validation_images(self) -> int:
        """How many images every accuracy was measured on; 0 before the first run."""
        return int(self.optuna.user_attrs.get("validation_images", 0))

    @validation_images.setter
    def validation_images(self, number: int) -> None:
        self._check_writer()
        self.drivers.persist(lambda: self.optuna.set_user_attr("validation_images", number))

    def check_images(self, fingerprint: str, number: int) -> None:
        """Keep what images the trials are scored on, `number` of them; `InputError` where earlier ones had others."""
        kept = self.optuna.user_attrs.get("images")
        other = not same_images(kept, fingerprint) if kept else self.validation_images not in (0, number)
        if other and self.finished:
            raise InputError(
                f"its {self.finished} trials were scored on {self.validation_images} images that are not "
                f"those of now ({number} to score on): the dataset has changed since; give another --run"
            )
        self.validation_images = number
        self.drivers.persist(lambda: self.optuna.set_user_attr("images", fingerprint))

    @property
    def finished(self) -> int:
        """How many trials have an outcome: complete, pruned or failed by their own fault."""
        return sum(trial.state.is_finished() and not interrupted(trial) for trial in self.trials)

    @property
    def ranked(self) -> list[FrozenTrial]:
        """Complete trials, best first: higher accuracy, then lower validation loss, then lower number."""
        return self.drivers.persist(lambda: ranked(self.optuna))

    @property
    def best(self) -> Trial:
        """The best complete trial; `LookupError` where there is none yet."""
        ranked = self.ranked
        if not ranked:
            raise LookupError("no trial is complete yet")
        return record(ranked[0])

    def front(self) -> list[Trial]:
        """Complete trials that no other beats in accuracy and minimised costs (else multiply-adds), cheapest first."""
        unbeaten = objectives.unbeaten(self.outcomes, lambda t: objectives.minimized(t) or [t.measured["macs"]])
        stored = {trial.number: trial for trial in self.trials}
        return [record(stored[trial.number]) for trial in unbeaten]

    @property
    def latencies(self) -> dict[int, float]:
        """Milliseconds measured of the best networks when nothing else ran, by trial; empty before a run's end."""
        return self.drivers.persist(lambda: records.latencies(self.optuna))

    @latencies.setter
    def latencies(self, measured: Mapping[int, float]) -> None:
        self._check_writer()
        told = {str(number): ms for number, ms in measured.items()}
        self.drivers.persist(lambda: self.optuna.set_user_attr("measured_ms", told))
