"""Trackers: every trial with its learning curve in MLflow, Weights & Biases or TensorBoard, by their own clients.

A tracker is told by a thread of its own, so that one that is slow or down delays and loses nothing of the search.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import threading
from pathlib import Path
from typing import Any

from nas.config import SearchConfig
from nas.trial import Result, Trial
from searchspace.errors import InputError

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "tensorboardX"}
EXTRAS = {"mlflow": "mlflow", "wandb": "wandb", "tensorboard": "train"}
LAST_S = 30.0  # how long a search waits at its end for what a tracker has still to write
PER_EPOCH = ("score", "loss", "train_loss", "images_per_s")


def check(names: list[str]) -> None:
    """`InputError` for a tracker that is not installed."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            raise InputError(f"track {name}: needs {PACKAGES[name]} (pip install 'cnn-budget-search[{EXTRAS[name]}]')")


def tracker(name: str, folder: Path, config: SearchConfig) -> Background:
    """A watcher that writes a run's trials to the tracker of that name."""
    made = {"mlflow": MLflow, "wandb": WandB, "tensorboard": TensorBoard}[name]
    return Background(lambda: made(folder, config), name)


class Background:
    """A watcher behind a queue: it is made and told in a thread of its own. An error ends it, and `close` raises it."""

    def __init__(self, make: Any, name: str) -> None:
        self.name, self._queue, self._error = name, queue.SimpleQueue[Any](), list[Exception]()
        self._thread = threading.Thread(target=self._work, args=(make,), name=f"track-{name}", daemon=True)
        self._thread.start()

    def started(self, trial: Trial) -> None:
        self._queue.put(("started", trial))

    def epoch(self, trial: Trial, result: Result) -> None:
        self._queue.put(("epoch", trial, result))

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self._queue.put(("ended", trial, outcome, result))

    def close(self) -> None:
        """Wait until all is written, but not for ever."""
        self._queue.put(("close",))
        self._thread.join(LAST_S)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.name} has not taken all trials within {LAST_S:g} s")
        if self._error:
            raise self._error[0]

    def _work(self, make: Any) -> None:
        try:
            watcher = make()
            while True:
                what, *arguments = self._queue.get()
                getattr(watcher, what)(*arguments)
                if what == "close":
                    return
        except Exception as error:
            self._error.append(error)


def describe(trial: Trial) -> dict[str, Any]:
    """What a trial is: its role, its costs, its choices; a cost of the user's own under `cost.NAME` where its name is
    that of something else."""
    numbers = {
        "trial": trial.number,
        "role": trial.baseline or trial.role,
        "digest": trial.digest,
        "macs": trial.cost.macs,
        "params": trial.cost.params,
        **trial.point,
    }
    return numbers | {f"cost.{name}" if name in numbers else name: cost for name, cost in trial.cost.own}


def numbers_of(result: Result, metric: str) -> dict[str, float]:
    """The numbers of an epoch, the score under the metric's name."""
    measured = ((metric if name == "score" else name, getattr(result, name)) for name in PER_EPOCH)
    return {name: float(number) for name, number in measured if number is not None}


class MLflow:
    """One MLflow run per trial in an experiment named like the run's folder; at MLFLOW_TRACKING_URI, else in
    RUN/mlflow.db (`mlflow ui --backend-store-uri sqlite:///RUN/mlflow.db` shows it)."""

    def __init__(self, folder: Path, config: SearchConfig) -> None:
        from mlflow.tracking import MlflowClient

        self.metric = config.identity.metric.name
        own = f"sqlite:///{folder.resolve() / 'mlflow.db'}"
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", own))
        name = folder.resolve().name
        known = self.client.get_experiment_by_name(name)
        self.experiment = known.experiment_id if known else self.client.create_experiment(name)
        self.runs: dict[int, str] = {}

    def started(self, trial: Trial) -> None:
        made = self.client.create_run(self.experiment, run_name=f"trial {trial.number}")
        self.runs[trial.number] = made.info.run_id
        for name, value in describe(trial).items():
            self.client.log_param(made.info.run_id, name, value)

    def epoch(self, trial: Trial, result: Result) -> None:
        for name, number in numbers_of(result, self.metric).items():
            self.client.log_metric(self.runs[trial.number], name, number, step=result.epoch)

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        run = self.runs.pop(trial.number)
        self.client.set_tag(run, "outcome", outcome)
        if result.error:
            self.client.set_tag(run, "error", result.error)
        status = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}.get(outcome, "KILLED")
        self.client.set_terminated(run, status)

    def close(self) -> None:
        for run in self.runs.values():
            self.client.set_terminated(run, "KILLED")


class WandB:
    """One Weights & Biases run per trial, in a group named like the run's folder; WANDB_MODE and the like apply."""

    def __init__(self, folder: Path, config: SearchConfig) -> None:
        import wandb

        self.wandb, self.folder, self.metric = wandb, folder, config.identity.metric.name
        self.runs: dict[int, Any] = {}

    def started(self, trial: Trial) -> None:
        self.runs[trial.number] = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", "cnn-budget-search"),
            group=self.folder.resolve().name,
            name=f"trial {trial.number}",
            config=describe(trial),
            dir=str(self.folder),
            reinit="create_new",
        )

    def epoch(self, trial: Trial, result: Result) -> None:
        self.runs[trial.number].log(numbers_of(result, self.metric), step=result.epoch)

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        run = self.runs.pop(trial.number)
        run.summary["outcome"] = outcome
        run.finish(exit_code=int(outcome == "failed"))

    def close(self) -> None:
        for run in self.runs.values():
            run.finish(exit_code=1)


class TensorBoard:
    """One event file per trial, in RUN/tensorboard."""

    def __init__(self, folder: Path, config: SearchConfig) -> None:
        from tensorboardX import SummaryWriter

        self.make, self.folder, self.metric = SummaryWriter, folder / "tensorboard", config.identity.metric.name
        self.writers: dict[int, Any] = {}

    def started(self, trial: Trial) -> None:
        self.writers[trial.number] = self.make(str(self.folder / f"trial-{trial.number}"))

    def epoch(self, trial: Trial, result: Result) -> None:
        for name, number in numbers_of(result, self.metric).items():
            self.writers[trial.number].add_scalar(name, number, result.epoch)

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self.writers.pop(trial.number).close()

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()
