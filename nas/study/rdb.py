"""Optuna's storage in a database, which reads ten thousand trials in seconds and keeps what they share once.

Optuna's own makes objects of all rows and parses the distribution of every parameter of every trial anew: half a minute
and a gigabyte for 10,000 trials.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Mapping
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.orm import Session

from nas.samplers import optuna_private as private

BATCH = 250  # trials at a time

Rows = dict[int, list[Any]]


def _as_rows(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": name, "value_json": json.dumps(value)} for name, value in attributes.items()]


class Storage(optuna.storages.RDBStorage):
    """As Optuna's, and what it reads is the same."""

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        model = private.models().TrialModel
        within = sqlalchemy.or_(model.trial_id > trial_id_greater_than, model.trial_id.in_(included_trial_ids))
        query = sqlalchemy.select(model).where(model.study_id == study_id, within).order_by(model.trial_id)
        trials: list[FrozenTrial] = []
        with Session(self.engine) as session:
            wanted = [row for row in session.scalars(query) if states is None or row.state in states]
            for first in range(0, len(wanted), BATCH):
                trials += self._build(session, wanted[first : first + BATCH])
        return trials

    def _build(self, session: Session, trials: list[Any]) -> list[FrozenTrial]:
        """Trials of their own rows, in the order of their ids, with what other tables have of them."""
        models, ids = private.models(), (trials[0].trial_id, trials[-1].trial_id)
        value_of = models.TrialValueModel.stored_repr_to_value
        score_of = models.TrialIntermediateValueModel.stored_repr_to_intermediate_value

        def rows(model: Any, *names: str) -> Rows:
            """Of every trial the rows of another table, in the order in which they were written."""
            (key,) = model.__table__.primary_key
            table = model.__table__.c  # rows without what makes objects of them
            columns = [table[name] for name in ("trial_id", *names)]
            found: Rows = defaultdict(list)
            query = sqlalchemy.select(*columns).where(table.trial_id.between(*ids)).order_by(key)
            for identity, *row in session.execute(query):
                found[identity].append(row)
            return found

        params = rows(models.TrialParamModel, "param_name", "distribution_json", "param_value")
        values = rows(models.TrialValueModel, "value", "value_type")
        own = rows(models.TrialUserAttributeModel, "key", "value_json")
        system = rows(models.TrialSystemAttributeModel, "key", "value_json")
        curve = rows(models.TrialIntermediateValueModel, "step", "intermediate_value", "intermediate_value_type")
        made = []
        for trial in trials:
            of = trial.trial_id
            kinds = {name: self._kind(text) for name, text, _ in params[of]}
            made.append(
                FrozenTrial(
                    number=trial.number,
                    state=trial.state,
                    value=None,
                    values=[value_of(*row) for row in values[of]] or None,
                    datetime_start=trial.datetime_start,
                    datetime_complete=trial.datetime_complete,
                    params={name: kinds[name].to_external_repr(inner) for name, _, inner in params[of]},
                    distributions=kinds,
                    user_attrs={key: json.loads(text) for key, text in own[of]},
                    system_attrs={key: json.loads(text) for key, text in system[of]},
                    intermediate_values={step: score_of(*row) for step, *row in curve[of]},
                    trial_id=of,
                )
            )
        return made

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Session) -> Any:
        """A trial that is recorded with all that it has: one statement for each table, where Optuna has several for
        each parameter and attribute."""
        if template_trial is None or template_trial.state != TrialState.RUNNING or template_trial.intermediate_values:
            return super()._get_prepared_new_trial(study_id, template_trial, session)
        models, kinds = private.models(), template_trial.distributions
        trial = models.TrialModel(study_id=study_id, state=TrialState.RUNNING)
        trial.datetime_start = template_trial.datetime_start
        session.add(trial)
        session.flush()  # which gives it its id
        rows: dict[Any, list[dict[str, Any]]] = {
            models.TrialParamModel: [
                {
                    "param_name": name,
                    "param_value": kinds[name].to_internal_repr(value),
                    "distribution_json": distribution_to_json(kinds[name]),
                }
                for name, value in template_trial.params.items()
            ],
            models.TrialUserAttributeModel: _as_rows(template_trial.user_attrs),
            models.TrialSystemAttributeModel: _as_rows(template_trial.system_attrs),
        }
        for model, of_trial in rows.items():
            if of_trial:
                session.execute(sqlalchemy.insert(model), [{"trial_id": trial.trial_id, **row} for row in of_trial])
        trial.number = trial.count_past_trials(session)
        return trial

    def annotate(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        """Several user attributes in one transaction, where Optuna has one for each."""
        with private.transaction(self) as session:
            for name, value in attributes.items():
                of_trial = private.models().TrialUserAttributeModel
                self._set_trial_attr_without_commit(session, of_trial, trial_id, name, value)

    def _kind(self, text: str) -> BaseDistribution:
        """A distribution, one and the same for all parameters that have it, with the choices in it."""
        known: dict[str, BaseDistribution] = vars(self).setdefault("_kinds", {})
        if text not in known:
            known[text] = json_to_distribution(text)
        return known[text]
