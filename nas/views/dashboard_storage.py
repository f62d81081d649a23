"""A run's study as the Optuna dashboard shows it: with notes, pictures and constraints, and not to be changed.

The dashboard reads these from attributes that a search has no use for. So they are made when they are read, from what
the study keeps anyway: the run stays as it is, also where it is running or was copied, and no search waits for a
dashboard's writes. Notes that people write are kept in the study and then take the place of ours.
"""

from __future__ import annotations

import copy
import functools
import io
import json
from collections.abc import Container, Sequence
from typing import Any, BinaryIO, NoReturn

import bottle
import optuna
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.config import SearchConfig
from nas.samplers import optuna_private as private
from nas.study import attributes, records
from nas.study.finals import best_of, finals_of
from nas.trial import TrialRecord
from nas.views import notes
from searchspace.budget import Budget, Cost
from searchspace.figures import plot

KEPT = 1000  # pictures, of 30 kB
# Of a trial's attributes those that say nothing to a person beside the note.
HIDDEN = {"arch", "minimize"}
# What people may write into a study with the dashboard: notes.
WRITABLE = ("dashboard:",)


class ReadOnlyStorage(BaseStorage):
    """The storage of a run's study for `optuna_dashboard.run_server`: one study, named like the run's folder.

    Asked to change trials or the study, it answers 403 with the reason.
    """

    def __init__(self, name: str, config: SearchConfig, study: optuna.Study) -> None:
        self.name, self.config, self.study = name, config, study
        self.space, self.budget = config.space, config.budget  # `InputError` here, not in the middle of an answer
        self._kept: BaseStorage = private.storage_of(self.study)
        self._id: int = private.study_id(self.study)
        self._ended: dict[int, FrozenTrial] = {}
        self._notes: dict[str, str] = {}
        self._summary = (-1, "")

    def picture(self, trial: FrozenTrial) -> str:
        return f"/artifacts/{self._id}/{private.trial_id(trial)}/{records.digest_of(trial)}"

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._kept.get_all_trials(study_id, deepcopy=False, states=states)
        return [self._with_picture(trial) for trial in trials]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._with_picture(self._kept.get_trial(trial_id))

    def get_best_trial(self, study_id: int) -> FrozenTrial:
        best = self._best()
        if best is None:
            raise ValueError("No trials are completed yet.")
        shown = copy.copy(self._with_picture(best))
        shown.state = TrialState.COMPLETE
        return shown

    def _best(self) -> FrozenTrial | None:
        """The network that the search names."""
        best = best_of(records.trial_records(self.study), finals_of(self.study))
        return self.study.get_trials(deepcopy=False)[best.number] if best else None

    def _with_picture(self, trial: FrozenTrial) -> FrozenTrial:
        """A copy with a picture and constraints; of ended trials the same one again."""
        if private.trial_id(trial) in self._ended:
            return self._ended[private.trial_id(trial)]
        attributes = {
            name: value for name, value in trial.user_attrs.items() if name not in HIDDEN and value not in (None, "")
        }
        if records.is_interrupted(trial):
            del attributes["error"]
            attributes["interrupted"] = self._came_of(trial)
        if outside := self._is_outside(trial):
            why = "it is complete, but no point of the space: importances are of those that are"
            attributes["shown as pruned"] = why
        digest = records.digest_of(trial)
        meta = {
            "artifact_id": digest,
            "filename": f"trial-{trial.number}.png",
            "mimetype": "image/png",
            "encoding": None,
        }
        system = {
            "constraints": constraints(self.budget, records.cost_of(trial)),
            f"artifacts:{digest}": json.dumps(meta),
        }
        shown = private.with_attributes(trial, attributes, system)
        if outside:
            shown.state = TrialState.PRUNED
        if trial.state.is_finished() and not records.is_interrupted(trial):
            self._ended[private.trial_id(trial)] = shown
        return shown

    def _is_outside(self, trial: FrozenTrial) -> bool:
        """Whether a complete trial is of a network that is no point of the space. Optuna has no importances where one
        complete trial lacks parameters."""
        return trial.state == TrialState.COMPLETE and not self.space.choices.keys() <= trial.params.keys()

    def _came_of(self, trial: FrozenTrial) -> str:
        """What came of an interrupted trial, which Optuna can only show as failed."""
        again = records.interruptions(self._kept.get_all_trials(self._id, deepcopy=False)).get(trial.number)
        return "will be asked again" if again is None else f"asked again as trial {again}"

    def get_all_studies(self) -> list[Any]:
        return [
            private.frozen_study(
                self.name,
                self.get_study_user_attrs(self._id),
                self.get_study_system_attrs(self._id),
                self._id,
                self.get_study_directions(self._id),
            )
        ]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """What the run is, in words."""
        config = self.config
        return {
            "budget": str(config.budget),
            "space": config.space_name,
            "dataset": config.identity.data.dataset,
            "sampler": config.identity.sampler,
            "seed": config.identity.seed,
            "validation images": self._images(),
        }

    def _images(self) -> int:
        return int(self.study.user_attrs.get("validation_images", 0))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """What Optuna keeps, with our notes where people have written none."""
        kept = self._kept.get_study_system_attrs(study_id)
        metric, made = records.metric_of(self.study), dict[str, Any]()
        alone = records.alone_ms(self.study)
        trials = self._kept.get_all_trials(self._id, deepcopy=False)
        for trial in trials:
            key = f"dashboard:{private.trial_id(trial)}:note_"
            made[f"{key}ver"], made[f"{key}str:0"] = (
                1,
                self._note(trial, records.trial_record(trial, metric, alone.get(trial.number))),
            )
        ended = sum(trial.state.is_finished() for trial in trials) + bool(finals_of(self.study))
        made["dashboard:note_ver"], made["dashboard:note_str:0"] = 1 + ended, self._about(ended)
        for name in [name for name in made if name.endswith("_ver") and name in kept]:
            del made[name], made[name.removesuffix("ver") + "str:0"]
        return {**made, **kept}

    def _note(self, trial: FrozenTrial, record: TrialRecord) -> str:
        """A trial's note; the part that takes time to make is made once for every way that a trial stands."""
        cut = f"Interrupted, {self._came_of(trial)}: no failure." if records.is_interrupted(trial) else ""
        key = f"{private.trial_id(trial)} {record.state} {record.score} {cut}"
        if key not in self._notes:
            self._notes[key] = notes.of_trial(records.trial_of(trial), record, self.picture(trial), cut)
        return self._notes[key]

    def _about(self, ended: int) -> str:
        """The run's note, made anew when a trial has ended, or the finals have."""
        if self._summary[0] != ended:
            best = self._best()
            picture = self.picture(best) if best else ""
            found = records.interruptions(self.study.get_trials(deepcopy=False))
            cut, outcomes = records.interruption_sentences(found), records.trial_records(self.study)
            chance, finals = attributes.chance_of(self.study.user_attrs), finals_of(self.study)
            said = notes.of_run(self.config, outcomes, self._images(), picture, cut, finals, chance)
            self._summary = (ended, said)
        return self._summary[1]

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self.name:
            raise KeyError(study_name)
        return self._id

    def get_study_name_from_id(self, study_id: int) -> str:
        return self.name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._kept.get_study_directions(study_id)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        if not key.startswith(WRITABLE):
            refuse()
        self._kept.set_study_system_attr(study_id, key, value)

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        refuse()

    def delete_study(self, study_id: int) -> None:
        refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        refuse()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        refuse()

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        refuse()

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        refuse()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        refuse()

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        refuse()

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        refuse()


class PictureStore:
    """An artifact store that draws a trial's network when its picture is first looked at, and writes nothing."""

    def __init__(self, shown: ReadOnlyStorage) -> None:
        self.exhibit = shown
        self.drawn = functools.lru_cache(KEPT)(self._draw)

    def open_reader(self, artifact_id: str) -> BinaryIO:
        return io.BytesIO(self.drawn(artifact_id))

    def _draw(self, artifact_id: str) -> bytes:
        trials = self.exhibit.study.get_trials(deepcopy=False)
        found = next((trial for trial in trials if records.digest_of(trial) == artifact_id), None)
        if found is None:
            raise ArtifactNotFound(artifact_id)
        drawn = io.BytesIO()
        plot(records.trial_of(found).arch, drawn, f"trial {found.number}")
        return drawn.getvalue()

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        refuse()

    def remove(self, artifact_id: str) -> None:
        refuse()


def constraints(budget: Budget, spent: Cost) -> list[float]:
    """One number a bound of the budget, above 0 where it is broken: the share that is too much, or too little."""
    ceilings = [limit.of(spent) / limit.high - 1 for limit in budget.limits]
    return ceilings + [1 - limit.of(spent) / limit.low for limit in budget.limits if limit.low]


def refuse() -> NoReturn:
    raise bottle.HTTPError(403, "The dashboard shows a search and does not change it.")
