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
import random
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self, SupportsFloat, SupportsIndex

import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.config import (
    CALLER,
    CONFIG,
    OWN_DATA,
    DataConfig,
    Execution,
    SearchConfig,
    SearchSpec,
    differences,
    load_plugins,
    same_images,
)
from nas.keywords import as_keywords
from nas.metric import DEFAULT_METRIC, Metric
from nas.plugins import plugins_in_use
from nas.samplers import ExhaustedError as ExhaustedError
from nas.samplers import optuna_private as private
from nas.samplers.observations import PriorObservation
from nas.study import attributes, lock, objectives, records, storage
from nas.study.attributes import KEPT, MEASURED
from nas.study.design import Design, MakeSampler
from nas.study.drivers import LostError, MissingError, SharedDriver, SingleDriver
from nas.study.early_stopping import EarlyStopping
from nas.study.finals import Finals, best_of, finals_of
from nas.study.horizon import promises
from nas.study.lock import FolderLock
from nas.study.proposals import Proposal, Proposals, waiting
from nas.study.rdb import Storage
from nas.study.records import (
    INTERRUPTED,
    costs_of,
    interruptions,
    is_interrupted,
    training_of,
    trial_of,
    trial_records,
)
from nas.study.storage import HEARTBEAT_S, StudyLocation, database
from nas.trial import MOST, Result, Trial, TrialRecord, rank
from searchspace.budget import DEPLOYED, Budget
from searchspace.document import plain
from searchspace.errors import InputError
from searchspace.space.space import FIT_BAND, Space
from searchspace.table import summary

RETRIES = 2
NOTHING: Mapping[str, Any] = MappingProxyType({})


class FullError(RuntimeError):
    """As many trials as were wanted have ended or run, here or elsewhere."""


@dataclass(frozen=True, slots=True)
class Reported:
    """Whether an epoch's score was kept, which is what it is as a truth value, and whether the trial should stop."""

    kept: bool
    stop: bool = False

    def __bool__(self) -> bool:
        return self.kept


def config_of_caller(design: Design) -> SearchConfig:
    """What the run of a study says that somebody's own code asks and tells."""
    sampler = design.sampler if isinstance(design.sampler, str) else getattr(design.sampler, "__name__", "own")
    spec = SearchSpec(
        space=design.space.data,
        budget=tuple(str(limit) for limit in design.budget.limits),
        data=DataConfig(OWN_DATA),
        sampler=sampler,
        seed=design.seed,
        band=design.band,
        controls=design.controls,
        baselines=design.baselines,
        minimize=tuple(design.minimize),
        metric=design.metric,
        evaluate=CALLER,
    )
    return SearchConfig(spec, Execution(plugins=plugins_in_use()), design.space.source)


def count_taken(trials: Sequence[FrozenTrial]) -> int:
    """How many trials have an outcome or run."""
    return len(trials) - sum(map(is_interrupted, trials))


def has_taken(trials: Sequence[FrozenTrial], total: int) -> bool:
    """Whether so many trials have an outcome or run."""
    return len(trials) >= total and count_taken(trials) >= total  # most often the first is no: then none is looked at


def _begin(study: optuna.Study, design: Design, identity: Mapping[str, Any]) -> None:
    """Note in a new study what it is of; the identity last, which says that it is whole."""
    study.set_user_attr("begun", {"controls": design.controls, "baselines": design.baselines})
    if design.metric != DEFAULT_METRIC:
        study.set_user_attr("metric", plain(design.metric))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([design.metric.stored_name])
    study.set_user_attr("identity", identity)


def _check_asked(method: str, trial: object) -> None:
    """`InputError` for what is no trial, such as a trial's number."""
    if not isinstance(trial, Trial):
        raise InputError(
            f"{method}: a trial that ask() returned is accepted, not {trial!r}; study.trial(number) is one"
        )


class Study:
    """Trials of one space under one budget, kept in `RUN/study.db` or in a database server.

    Everything that `ask` returns is inside the budget and was not asked before; given the same history, the same seed
    proposes the same networks, also after a restart. Its methods may be called from several threads. It has the run
    folder for itself until it is closed, as at the end of a `with` block, or collected.
    """

    def __init__(
        self, study: optuna.Study, design: Design, drivers: SingleDriver | None = None, read_only: bool = False
    ) -> None:
        self.optuna, self.design, self.read_only = study, design, read_only
        self.place: StudyLocation | None = None  # of one that may write
        self._lock: FolderLock | None = None
        self._release: weakref.finalize[..., Any] | None = None
        self.drivers = drivers or SingleDriver()
        self._ids: dict[int, int] = {}
        self._looked = -math.inf
        self.early_stopping: EarlyStopping | None = None
        self._behind: set[int] = set()  # trials whose last report said stop
        self.space, self.budget, self.metric = design.space, design.budget, design.metric
        self.minimize = tuple(design.minimize)
        self.proposals = Proposals(design)

    @classmethod
    @as_keywords("run")
    def open(
        cls,
        run: str | Path,
        space: Space | str | Path | Mapping[str, Any],
        budget: Budget | str | Sequence[str],
        sampler: str | MakeSampler = "auto",
        seed: int = 0,
        band: float = FIT_BAND,
        controls: int = 8,
        baselines: int = 0,
        evidence: Sequence[PriorObservation] = (),
        minimize: Sequence[str] = (),
        place: StudyLocation | None = None,
        identity: Mapping[str, Any] = NOTHING,
        metric: str | Metric = DEFAULT_METRIC,
        epochs: int | None = None,
    ) -> Study:
        """The study of a run folder, made where there is none. What a dead run left running is closed and queued.

        `space` is also a ready name or a file, `budget` a text, `metric` a name (see `Metric.of`), `sampler` a function
        as those in `nas.samplers`. With `epochs`, how many a trial has, `report` says which to stop. `place` says where
        the study is kept, where that is not in the folder, and `identity` what else has to be equal then. For the rest
        see `Design`.

        Raises `InputError` for an unknown sampler, one that evidence cannot teach, a budget that no network of the
        space keeps, a folder whose study has another space or budget or has lost trials, and one in which somebody else
        writes: `Study.read` reads it meanwhile.
        """
        given = Space.of(space), Budget.parse(budget), sampler, seed, band, controls, baselines, evidence, minimize
        design = Design(*given, Metric.of(metric))
        if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
            raise InputError(f"epochs: a whole number from 1 is accepted, not {epochs!r}")
        design.space.reach(design.budget, design.band, random.Random(0))  # `InputError` where nothing is within it
        study = cls.begin(run, design, place, identity)
        study.early_stopping = None if epochs is None else EarlyStopping(epochs)
        folder = storage.run_folder(run)
        if not (folder / CONFIG).is_file():  # of a search it is there, and says more
            config_of_caller(design).save(folder)
        return study

    @classmethod
    def begin(
        cls, run: str | Path, design: Design, place: StudyLocation | None = None, identity: Mapping[str, Any] = NOTHING
    ) -> Study:
        """As `open`, of a design."""
        folder = storage.run_folder(run)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held = lock.take(folder)
        except InputError:
            raise
        except (OSError, ValueError) as error:  # of a path that the system does not take
            raise InputError(f"run folder {folder}: cannot be made ({getattr(error, 'strerror', error)})") from None
        try:
            study = cls._open(place or StudyLocation(folder), design, identity)
        except BaseException:
            held.release()
            raise
        if study.place and not study.place.url:
            held.watch(folder / storage.FILE)
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
        load_plugins(storage.run_folder(run))
        found = storage.load(run)
        identity = found.user_attrs.get("identity")
        if not isinstance(identity, dict):
            raise InputError(f"{run}: holds no search")
        space, budget = Space(identity["space"], str(run)), Budget.parse(identity["budget"])
        design = Design(space, budget, minimize=identity.get("minimize", ()), metric=records.metric_of(found))
        return cls(found, design, read_only=True)

    @classmethod
    def _open(cls, place: StudyLocation, design: Design, identity: Mapping[str, Any]) -> Study:
        """The study at its place, whose folder is locked."""
        storage.holds(place)  # whole, before anything is made there
        rdb = database(place)
        try:
            found = optuna.create_study(storage=rdb, study_name=place.name, direction="maximize", load_if_exists=True)
        except Exception as error:
            raise storage.damage_error(place, error) from None
        identity = json.loads(json.dumps({**design.identity, **identity}))
        storage.check(found, place)
        known = found.user_attrs.get("identity")
        if known is None:
            try:
                _begin(found, design, identity)
            except optuna.exceptions.StorageInternalError as error:  # of a full disk
                raise storage.damage_error(place, error) from None
        elif known != identity:
            changed = "; ".join(differences(known, identity)[:3])
            raise InputError(f"{place}: holds another search ({changed}); give another --run")
        if place.url:
            begun = found.user_attrs.get("begun", {})
            design = replace(design, **{name: begun[name] for name in ("controls", "baselines") if name in begun})
        made = cls(found, design, SharedDriver(found, rdb, place.folder) if place.url else SingleDriver(place.folder))
        made.place = place
        return made

    def open_finals(self) -> Study:
        """The study of the finals (see `nas.study.finals`), whose trials are their trainings, under this one's lock."""
        self._check_writer()
        assert self.place is not None
        design = replace(self.design, controls=0, baselines=0, evidence=(), minimize=())
        place = self.place.finals
        made = self.drivers.persist(lambda: Study._open(place, design, NOTHING))
        made._lock = self._lock
        made.close_abandoned()
        return made

    @property
    def finals(self) -> Finals | None:
        """The finals that were held last; None where none were, or they are not over."""
        return self.drivers.persist(lambda: finals_of(self.optuna))

    def ask(self, total: int | None = None) -> Trial:
        """The next network to train, recorded as running. Raises `ExhaustedError` where nothing new is left.

        Raises `FullError` where `total` trials have ended or run, those of other drivers too.
        """
        self._check_writer()
        if total is not None and (isinstance(total, bool) or not isinstance(total, int) or total < 1):
            raise InputError(f"ask: total, a whole number of trials from 1, is accepted, not {total!r}")
        return self.drivers.persist(lambda: self._ask(total))

    def _ask(self, total: int | None) -> Trial:
        with self.drivers.turn():
            if self.drivers.name:  # nobody else has a driver alone
                self._interrupt(self.drivers.abandoned(self._running))
            trials = self.trials
            if total is not None and has_taken(trials, total):
                raise FullError(f"{total} trials have ended or run, as many as were asked for")
            trial = self._record(self.proposals.next(trials))
            self.drivers.take(self._ids[trial.number])
            return trial

    def template(self, proposal: Proposal) -> FrozenTrial:
        """A proposal as a running trial that is not in the study yet."""
        candidate, role, baseline, share, final = proposal
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
            **{name: cost.of(name) for name in DEPLOYED},
            **({"own_costs": dict(cost.own)} if cost.own else {}),
            "width_mult": candidate.width_mult,
            "settled": " ".join(map(str, candidate.settled)),
            "network": summary(arch),
            "arch": json.dumps(arch.to_dict()),
        }
        if self.space.extremes:
            attributes["resolutions"] = list(self.space.extremes)
        if self.drivers.name:
            attributes["driver"] = self.drivers.name
        if final:
            attributes["final"] = asdict(final)
        params = dict(candidate.point)
        if self.minimize:
            attributes["minimize"] = objectives.costs(cost, self.minimize)
            if params:
                params[objectives.SHARE] = share
        return optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.proposals.distributions if params else {},
            user_attrs=attributes,
        )

    def _record(self, proposal: Proposal) -> Trial:
        """A proposal as a running trial of the study, in one write."""
        trial_id = self._rdb.create_new_trial(private.study_id(self.optuna), self.template(proposal))
        number = self._rdb.get_trial(trial_id).number
        self._ids[number] = trial_id
        (candidate, role, baseline, _, final) = proposal
        point, arch, cost, width_mult, settled = candidate
        named = (role, dict(point), width_mult, settled, baseline, self.space.extremes, final)
        return Trial(number, arch, cost, *named)

    def report(self, trial: Trial, result: Result) -> Reported:
        """Keep one epoch's score: a point of the learning curve. Not kept, with a warning, where the trial is closed.

        Of a study that knows how many `epochs` trials have, `stop` says whether this one is behind (see
        `EarlyStopping`). Told a score then, without another report, it is closed as stopped early. Known networks never
        are.

        Raises `InputError` for what is no `Result`, a score that is not finite, or that the metric cannot have, and an
        epoch below 1, or that trials of this study do not have.
        """
        self._check_writer()
        _check_asked("report", trial)
        if not isinstance(result, Result):
            raise InputError(f"report: a Result(epoch=…, score=…) is accepted, not {result!r}")
        score = self._check_score(result.score)
        if not math.isfinite(score):
            raise InputError(
                f"{self.metric.words}: a finite number is accepted, not {score}; tell(error=…) closes a trial"
            )
        rule = self.early_stopping
        most = MOST if rule is None else rule.epochs
        whole = isinstance(result.epoch, SupportsIndex) and not isinstance(result.epoch, bool)
        if not whole or not 1 <= result.epoch <= most:
            raise InputError(f"epoch: a whole number from 1 to {most:,} is accepted, not {result.epoch!r}")
        result = result.plain()
        numbers = ((name, getattr(result, name)) for name in ("loss", "train_loss", "images_per_s", "seconds"))
        measured = {name: number for name, number in numbers if number is not None}
        measured |= {"latency_ms": result.contended_ms} | ({"correct": result.correct} if result.correct else {})

        def write() -> None:
            trial_id = self._id(trial.number)
            self._rdb.set_trial_intermediate_value(trial_id, result.epoch, self.metric.gain(score))
            self._annotate(trial_id, measured)

        kept = self._try_write(write)
        if not kept:
            return Reported(self._refuse(trial, f"{self.metric.words} {result.score} of epoch {result.epoch}"))
        stop = rule is not None and self.is_behind(trial, result, rule)
        (self._behind.add if stop else self._behind.discard)(trial.number)
        return Reported(True, stop)

    def is_behind(self, trial: Trial, result: Result, rule: EarlyStopping) -> bool:
        """Whether a trial is to be stopped early, after what it measured by the end of an epoch.

        Known networks never are: the best network of a run is to be compared with what they reach. Random controls are,
        as the search's own networks: both are compared at epochs that all had.

        It is compared with what the study's other trials, of earlier runs and other drivers too, had scored when they
        were so far. Where costs are minimised beside the score, only with those that cost no more: a cheap network need
        not be among the best. By the `horizon`, what scores promise is compared.
        """
        rung = rule.rung
        if trial.role == "baseline" or result.epoch != rung:
            return False
        kept, images = self.trials, self.validation_images
        others = [one for one in kept if one.state != TrialState.FAIL and rung in one.intermediate_values]
        if self.minimize:
            costs = costs_of(kept[trial.number])
            others = [one for one in others if all(a <= b for a, b in zip(costs_of(one), costs, strict=True))]
        rivals = [one for one in others if one.number != trial.number]
        gains = [self.metric.gain(result.score), *(one.intermediate_values[rung] for one in rivals)]
        if self.design.horizon:
            gains = promises(gains, [trial.cost.activations, *(one.user_attrs["activations"] for one in rivals)])
        return rule.behind(gains[0], gains[1:], lambda cutoff: self.metric.standard_error(cutoff, images))

    def tell(
        self, trial: Trial, score: float | None = None, *, error: str = "", pruned: bool = False, **attributes: Any
    ) -> bool:
        """Close a trial: with its final score, as stopped early (`pruned`, or where `report` said stop last), or as
        failed with the reason.

        False where the trial is closed already, with a warning that its score is lost; of a study in a server without:
        another driver believed us dead, and asks its network again.
        """
        self._check_writer()
        _check_asked("tell", trial)
        if score is None and self.metric.name in attributes:  # by its name
            score = attributes.pop(self.metric.name)
        self._check_attributes(attributes)
        if score is not None:
            score = self._check_score(score)
        elif not error and not pruned:
            raise InputError(f"tell: {self.metric.words}, pruned=True or error=… is accepted, not nothing")
        pruned = pruned or (not error and trial.number in self._behind)
        self._behind.discard(trial.number)
        if not error and not pruned and score is not None and not math.isfinite(score):
            error = f"{self.metric.words} is {score}"
        gain = None if score is None else self.metric.gain(score)
        state = TrialState.FAIL if error else TrialState.PRUNED if pruned else TrialState.COMPLETE

        def write() -> None:
            self._annotate(trial_id, {**attributes, **({"error": error} if error else {})})
            scores = self._rdb.get_trial(trial_id).intermediate_values
            final = gain if state == TrialState.COMPLETE else scores.get(max(scores, default=0))
            values = None if final is None or state == TrialState.FAIL else [final]
            self._rdb.set_trial_state_values(trial_id, state, values)

        trial_id = self._id(trial.number)
        written = self._try_write(write)
        self.drivers.drop(trial_id)
        self._ids.pop(trial.number, None)
        if written or error:
            return written
        closed = self.drivers.persist(lambda: self._rdb.get_trial(trial_id))
        same = closed.state == state and (pruned or closed.value == gain)  # written before the server said so
        return same or self._refuse(trial, f"{self.metric.words} {score}")

    def _check_attributes(self, attributes: Mapping[str, Any]) -> None:
        """`InputError` for attributes that the study keeps itself, or that are no plain data."""
        for name, attribute in attributes.items():
            if name in KEPT - MEASURED:
                raise InputError(f"{name}: is what the study keeps of a trial itself; give another name")
            if name in MEASURED and (isinstance(attribute, bool) or not isinstance(attribute, (int, float))):
                raise InputError(f"{name}: a number is accepted, not {attribute!r}")
            try:
                json.dumps(attribute, ensure_ascii=False).encode()
            except (TypeError, ValueError):  # of a text that is no UTF-8 too
                raise InputError(f"{name}: plain data is accepted, not {type(attribute).__name__}") from None

    def _check_score(self, score: Any) -> float:
        """A score as a number; `InputError` for what is none, or none that the metric can have."""
        if not isinstance(score, SupportsFloat):
            what = "a number from 0 to 1" if self.metric.is_share else "a number"
            raise InputError(f"{self.metric.words}: {what} is accepted, not {score!r}")
        try:
            number = float(score)
        except (TypeError, ValueError):
            raise InputError(f"{self.metric.words}: one number is accepted, not {type(score).__name__}") from None
        self.metric.check(number)
        return number

    def interrupt(self, trial: Trial) -> bool:
        """Close a trial whose worker died; its training is asked again, unless it took workers with it before.

        True where it will be asked again; else it failed.
        """
        self._check_writer()
        before = sum(bool(one.user_attrs.get("lost")) and training_of(one) == trial.training for one in self.trials)
        died = f"its worker died {before + 1} times (killed, or out of memory)"
        trial_id = self._id(trial.number)
        self._try_write(lambda: self._annotate(trial_id, {"lost": True}))
        self.tell(trial, error=INTERRUPTED if before < RETRIES else died)
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
        rdb = private.backend_of(self._rdb)
        if isinstance(rdb, optuna.storages.RDBStorage):
            rdb.remove_session()
            rdb.engine.dispose()
        if self._release and self._release.alive:
            assert self._lock
            if not self.drivers.name and not self._lock.missing():
                storage.settle(self._lock.folder)
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def check_place(self) -> None:
        """`MissingError` where the run folder, or the study in it, is no longer what was opened there."""
        if self._lock and (missing := self._lock.missing()):
            raise MissingError(
                f"{missing} was moved, removed or replaced while a search wrote in it; "
                "once it is back, the same command carries on"
            )

    def _check_writer(self) -> None:
        """`InputError` where this is not, or no longer, the one that writes in the folder."""
        if self.read_only:
            raise InputError("the study was opened to be read; Study.open opens one to ask and tell")
        if self._release and not self._release.alive:
            raise InputError("the study is closed; Study.open opens it again")
        if self._lock and self._lock.process != os.getpid():
            raise InputError(f"run {self._lock.folder}: the process that opened the study may write, not a fork of it")
        self.check_place()

    def _refuse(self, trial: Trial, what: str) -> bool:
        """Nobody but this driver closes its trials, so a script has made a mistake that costs it a score."""
        if not self.drivers.name:
            kept = self.trials[trial.number]
            ended = "interrupted" if is_interrupted(kept) else kept.state.name.lower()
            warnings.warn(f"trial {trial.number} is closed ({ended}): its {what} is not kept", stacklevel=3)
        return False

    def _interrupt(self, trials: Sequence[FrozenTrial]) -> int:
        for trial in trials:
            with suppress(LostError):  # who runs it has told it at this moment
                self._annotate(private.trial_id(trial), {"error": INTERRUPTED})
                self._rdb.set_trial_state_values(private.trial_id(trial), TrialState.FAIL)
        return len(trials)

    def _annotate(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        rdb = private.backend_of(self._rdb)
        assert isinstance(rdb, Storage)
        rdb.annotate(trial_id, attributes)

    def _try_write(self, write: Callable[[], None]) -> bool:
        try:
            self.drivers.persist(write)
        except LostError:
            return False
        return True

    def _id(self, number: int) -> int:
        """Optuna's own number of a trial, which is not its number in the study; `InputError` where there is none."""
        if number not in self._ids and not 0 <= number < len(self.trials):
            raise InputError(f"trial {number}: none of this study's, which has {len(self.trials)}")
        return self._ids[number] if number in self._ids else private.trial_id(self.trials[number])

    @property
    def _rdb(self) -> optuna.storages.BaseStorage:
        return private.storage_of(self.optuna)

    @property
    def _facts(self) -> dict[str, Any]:
        """What is kept with the study."""
        return self.drivers.persist(lambda: self.optuna.user_attrs)

    @property
    def _running(self) -> list[FrozenTrial]:
        return self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    @property
    def waiting(self) -> list[str]:
        """The trainings (see `Trial.training`) that will be asked again."""
        return [training_of(trial) for trial in waiting(self.trials)]

    @property
    def interrupted(self) -> dict[int, int | None]:
        """The trials that were interrupted, each with the trial that took its place; None where it waits for one."""
        return interruptions(self.trials)

    @property
    def taken(self) -> int:
        """How many trials have an outcome or run, here or elsewhere."""
        return count_taken(self.trials)

    def full(self, total: int) -> bool:
        """Whether so many trials are taken. Now and then it looks for those whose driver, another, is dead."""
        if self.drivers.name and time.monotonic() - self._looked > HEARTBEAT_S:
            self._looked = time.monotonic()
            self.close_abandoned()
        return has_taken(self.trials, total)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.drivers.persist(lambda: self.optuna.get_trials(deepcopy=False))

    @property
    def records(self) -> list[TrialRecord]:
        """Every trial but the interrupted ones, in their order."""
        return self.drivers.persist(lambda: trial_records(self.optuna))

    @property
    def validation_images(self) -> int:
        """How many images every score was measured on; 0 before the first run."""
        return int(self._facts.get("validation_images", 0))

    @validation_images.setter
    def validation_images(self, number: int) -> None:
        self.keep("validation_images", number)

    def keep(self, name: str, fact: Any) -> None:
        """Keep a fact with the study."""
        self._check_writer()
        self.drivers.persist(lambda: self.optuna.set_user_attr(name, fact))

    def check_same_images(self, fingerprint: str, number: int) -> None:
        """`InputError` where the trials that there are were scored on other images."""
        kept = self._facts.get("images")
        other = not same_images(kept, fingerprint) if kept else self.validation_images not in (0, number)
        if other and self.finished:
            raise InputError(
                f"its {self.finished} trials were scored on {self.validation_images} images that are not "
                f"those of now ({number} to score on): the dataset has changed since; give another --run"
            )

    @property
    def chance(self) -> float | None:
        """The score of always answering the same of these images; None where it is not known."""
        return attributes.chance_of(self._facts)

    def check_images(
        self, fingerprint: str, number: int, chance: float | None = None, mirrored: bool | None = None
    ) -> None:
        """Keep what images the trials are scored on, `number` of them, the score of always answering the same, and
        whether those that they train on are `mirrored`; `InputError` where earlier ones had others."""
        self.check_same_images(fingerprint, number)
        before = self._facts.get("mirrored")
        if self.finished and None not in (before, mirrored) and before != mirrored:
            was, now = ("mirrored at random" if flip else "not mirrored" for flip in (before, mirrored))
            raise InputError(
                f"its {self.finished} trials were trained on images {was}, these are {now}; give another --run"
            )
        if mirrored is not None:
            self.keep("mirrored", mirrored)
        self.validation_images = number
        self.keep("chance", chance)
        self.keep("images", fingerprint)

    @property
    def finished(self) -> int:
        """How many trials have an outcome: complete, pruned or failed by their own fault."""
        return sum(trial.state.is_finished() and not is_interrupted(trial) for trial in self.trials)

    @property
    def ranked(self) -> list[TrialRecord]:
        """Complete trials, best first: by score, then less of what is minimised, then lower validation loss, then lower
        number."""
        return rank(self.records)

    @property
    def best(self) -> Trial:
        """The winner of the finals, where there were any, else the best complete trial; `LookupError` where there is
        none yet."""
        best = best_of(self.records, self.finals)
        if best is None:
            raise LookupError("no trial is complete yet")
        return self.trial(best.number)

    def trial(self, number: int) -> Trial:
        """A trial as it was asked."""
        return trial_of(self.trials[number])

    def front(self) -> list[Trial]:
        """Complete trials that no other beats in score and minimised costs (else multiply-adds), cheapest first."""
        unbeaten = objectives.unbeaten(self.records, lambda t: objectives.minimised_of(t) or [t.cost.macs])
        stored = {trial.number: trial for trial in self.trials}
        return [trial_of(stored[trial.number]) for trial in unbeaten]

    @property
    def alone_ms(self) -> dict[int, float]:
        """Milliseconds measured of the best networks once no trial ran, by trial; empty before a run's end."""
        return self.drivers.persist(lambda: records.alone_ms(self.optuna))

    @alone_ms.setter
    def alone_ms(self, measured: Mapping[int, float]) -> None:
        self.keep("measured_ms", {str(number): ms for number, ms in measured.items()})

    @property
    def busy(self) -> str:
        """What else went on when these were measured (see `records.busy`)."""
        return self.drivers.persist(lambda: records.busy(self.optuna))

    @busy.setter
    def busy(self, words: str) -> None:
        self.keep("measured_busy", words)
