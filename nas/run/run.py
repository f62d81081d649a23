"""`Run`: a search in a folder. Whoever looks at a run, a command, a view or a notebook, opens it here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.config import CONFIG, SearchConfig
from nas.metric import Metric
from nas.study import storage
from nas.study.study import Study, config_of_caller
from nas.trial import Trial, TrialRecord, rank
from searchspace.costs.latency import LatencyTable
from searchspace.document import user_path
from searchspace.errors import InputError

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from nas.analysis.agreement import Retrained
    from nas.analysis.confusion import Confusion
    from nas.analysis.state import State
    from nas.study.finals import Finals

TABLE = "latency.json"


class Run:
    """A search in a folder, to look at: one that runs, has ended or was copied. Reading never writes, and never closes
    anybody's trial; what is asked for is what the study says at that moment.

        run = Run.search(budget="300MFLOPs", dataset="path/to/images", folder="runs/a", trials=48)
        run.best.arch, run.best.score
        run = Run.open("runs/a")
    """

    def __init__(self, folder: str | Path, config: SearchConfig, study: optuna.Study) -> None:
        self._given = user_path(folder)
        self._place, self.config, self.study = self._given.absolute(), config, study

    def __reduce__(self) -> Any:
        return type(self).open, (self._place,)

    @property
    def folder(self) -> Path:
        """As it was given, while that leads there: after `os.chdir` its whole path."""
        return self._given if self._given.absolute() == self._place else self._place

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """The run of a folder; `InputError` where there is none, or its study cannot be read."""
        if not isinstance(folder, (str, Path)):
            raise InputError(f"run: a folder's path is accepted, not {folder!r}")
        path = user_path(folder)
        study = storage.load(path)
        return cls(path, cls.config_of(path) or config_of_caller(Study.read(path).design), study)

    @staticmethod
    def config_of(folder: Path) -> SearchConfig | None:
        """What the run of a folder was told, also where it has no study yet; None where there is no run."""
        return SearchConfig.load(folder) if (folder / CONFIG).is_file() else None

    @classmethod
    def search(cls, budget: Any, **options: Any) -> Run:
        """Search, or carry on with the search of the folder; returns its run. See `nas.run.search.search`."""
        from nas.run.search import search

        return search(budget=budget, **options)

    def __repr__(self) -> str:
        ended = sum(record.state != "running" for record in self.trials)
        wanted = self.config.wanted
        of = "" if wanted is None or wanted < ended else f"of {wanted} "
        return f"Run({str(self.folder)!r}: {ended} {of}trials ended)"

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @cached_property
    def metric(self) -> Metric:
        """What its trials are scored by."""
        from nas.study.records import metric_of

        return metric_of(self.study)

    @property
    def trials(self) -> list[TrialRecord]:
        """Every trial in its order, but those that were interrupted: their networks have trials of their own again."""
        from nas.study.records import trial_records

        return trial_records(self.study)

    @property
    def ranked(self) -> list[TrialRecord]:
        """The complete trials, best first."""
        return rank(self.trials)

    @property
    def best(self) -> TrialRecord:
        """The network that the search names: the winner of its finals, else the best complete trial; `InputError` where
        none is complete yet."""
        from nas.study.finals import best_of

        best = best_of(self.trials, self.finals)
        if best is None:
            failed = [trial.error for trial in self.trials if trial.state == "failed"]
            why = f"; {len(failed)} failed: {failed[-1]}" if failed else ""
            raise InputError(f"{self.folder}: no trial is complete{why}")
        return best

    @property
    def finals(self) -> Finals | None:
        """The finals that were held last; None where none were, or they are not over."""
        from nas.study.finals import finals_of

        return finals_of(self.study)

    @property
    def front(self) -> list[TrialRecord]:
        """The complete trials that no other beats in score and in all that is minimised (else multiply-adds)."""
        from nas.study.objectives import minimised_of, unbeaten

        return unbeaten(self.trials, lambda trial: minimised_of(trial) or [trial.cost.macs])

    def trial(self, number: int) -> TrialRecord:
        """Any trial by its number, interrupted ones too; `InputError` where there is none of that number."""
        from nas.study.records import alone_ms, trial_record

        return trial_record(self._frozen(number), self.metric, alone_ms(self.study).get(number))

    def network(self, number: int) -> Trial:
        """A trial's network as it was trained; `InputError` where the study is damaged there, or has no such trial."""
        from nas.study.records import trial_of

        return trial_of(self._frozen(number))

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        trials = self.study.get_trials(deepcopy=False)
        if not isinstance(number, Integral) or not 0 <= number < len(trials):  # of a table's column too
            accepted = f"0 to {len(trials) - 1} are in {self.folder}" if trials else f"{self.folder} has none yet"
            raise InputError(f"trial {number!r}: {accepted}")
        return trials[number]

    def frame(self) -> pd.DataFrame:
        """One row per trial: the columns of trials.csv."""
        from nas.analysis import tables

        return tables.frame(self.trials)

    @property
    def images(self) -> int:
        """How many images every score was measured on; 0 where that is not known."""
        return int(self.study.user_attrs.get("validation_images", 0))

    @property
    def chance(self) -> float | None:
        """The score of always answering the same of these images; None where that is not known."""
        from nas.study import attributes

        return attributes.chance_of(self.study.user_attrs)

    @property
    def interruptions(self) -> list[str]:
        """Sentences about trials that began and were lost."""
        from nas.study.records import interruption_sentences, interruptions

        return interruption_sentences(interruptions(self.study.get_trials(deepcopy=False)))

    @property
    def alive(self) -> bool | None:
        """Whether a search is running here; None where its study is in a server, which others may work on."""
        from nas.study import lock

        if lock.is_held(self.folder):
            return True
        return None if self.config.conduct.storage else False

    @property
    def state(self) -> State:
        """How far it is."""
        from nas.analysis.state import state
        from nas.study.finals import finalists, trainings_of

        wanted = self.config.wanted
        due = wanted is not None and bool(finalists(self.config) and self.ranked and self.finals is None)
        return state(self.trials, wanted, self.interruptions, self.alive, trainings_of(self.study), due)

    @property
    def latency_table(self) -> LatencyTable | None:
        """The layer times that its latencies are predicted from."""
        path = self.folder / TABLE
        return LatencyTable.load(path) if path.is_file() else None

    @property
    def busy(self) -> str:
        """What else went on when the best networks' latencies were measured; "" where nothing did."""
        from nas.study.records import busy

        return busy(self.study)

    @property
    def environments(self) -> Sequence[dict[str, str]]:
        """What it ran on; more than one where it was carried on elsewhere."""
        from nas.run import environment

        return environment.load(self.folder)

    @property
    def retrained(self) -> list[Retrained]:
        """Its networks that were trained in full, by `nas.train RUN --top` or `nas.deploy`, best first."""
        from nas.analysis import agreement

        return agreement.load(self.folder / agreement.FOLDER, self.trials, self.folder / agreement.DEPLOYED)

    @property
    def confusions(self) -> dict[int, Confusion]:
        """Of these, by trial, which classes they take for which."""
        from nas.analysis import confusion

        found = {row.trial: confusion.load(row.folder) for row in self.retrained}
        return {number: one for number, one in found.items() if one is not None}

    def describe(self) -> str:
        """What the run shows, in sentences."""
        from nas.run.report import sentences

        return "\n".join(sentences(self))

    def report(self, out: str | Path | None = None) -> Path:
        """Write report.html, trials.csv and trials.parquet into a folder, the run's own by default; returns the page's
        path."""
        from nas.run.report import write

        return write(self, self.folder if out is None else user_path(out))

    def export(self, which: int | str = "best", out: str | Path | None = None, onnx: bool = False) -> Path:
        """Write the network of a trial, by its number or "best", to a folder that needs nothing of this project.

        The folder is `out`, else `export` in the run's. Returns it. See `nas.export`.
        """
        from nas.run.export import export_trial

        return export_trial(self, which, user_path(out) if out is not None else self.folder / "export", onnx)
