"""MLflow: a search's trials are runs there, with their parameters and curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas import Run
from nas.run.trackers import describe
from tests.nas.study.test_study import opened

TRIALS, EPOCHS = 8, 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of MLflow's own making
def test_every_trial_is_a_run_with_its_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow-skinny: pip install 'cnn-budget-search[mlflow]'")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = Run.search(
        "4MFLOPs", resolution=32, trials=TRIALS, epochs=EPOCHS, folder=tmp_path / "run", track=["mlflow"], quiet=True
    )
    client = MlflowClient(f"sqlite:///{tmp_path / 'run' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("run")
    assert experiment is not None
    kept = {int(one.data.params["trial"]): one for one in client.search_runs([experiment.experiment_id])}
    trials = {trial.number: trial for trial in run.trials}
    assert kept.keys() == trials.keys()
    assert len(kept) == TRIALS
    for number, trial in trials.items():
        said = kept[number]
        curve = {point.step: point.value for point in client.get_metric_history(said.info.run_id, "accuracy")}
        assert curve == pytest.approx(trial.curve)
        assert said.data.tags["outcome"] == trial.state
        assert said.data.params["digest"] == trial.digest
        assert int(said.data.params["macs"]) == trial.cost.macs
        assert {name: str(value) for name, value in trial.point.items()}.items() <= said.data.params.items()
        assert said.info.status == "FINISHED"
    assert len(client.get_metric_history(kept[run.best.number].info.run_id, "loss")) == EPOCHS


def test_a_cost_that_is_called_like_something_else_replaces_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as study:
        trial = study.ask()
    known = describe(trial)
    own = replace(trial, cost=replace(trial.cost, own=(("trial", 5.0), ("mine", 7.0))))
    assert describe(own) == known | {"cost.trial": 5.0, "mine": 7.0}
