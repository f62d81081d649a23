"""One full training on several workers of this machine, each a GPU or a part of the CPU. The door of Ray Train.

Ray Train only starts the workers, joins them in a process group and notices when one is lost. What is trained and how
far it is lies in the folder of the training, where the first worker writes and the driver reads; it is carried on from
there by as many workers as the next command says.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nas.data.datasets import Split
from nas.full_training import training_folder
from nas.full_training.training_folder import TrainingPlan
from nas.training.ranks import ProcessGroup
from nas.training.trainer import DivergedError, Each, Epoch, Training, ignore_progress
from nas.workers import cluster, declarations, ray_private
from searchspace import machine
from searchspace.errors import InputError

QUIET = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how late the end of a training, or of a worker, is noticed
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
}
LOOK_EVERY_S = 0.5
OF_THE_TRAINING = (DivergedError, torch.OutOfMemoryError, MemoryError, InputError)


class LostError(RuntimeError):
    """A worker died, or failed for no reason of the training's."""


def check(workers: int, device: str, batch_size: int) -> None:
    """`InputError` unless every worker has a device of its own and images of every batch."""
    there, kind = (torch.cuda.device_count(), "GPU") if device == "cuda" else (machine.cores(), "CPU core")
    most = min(there, batch_size)
    if not 1 <= workers <= most:
        limit = f"one a {kind}" if most == there else "one an image of a batch"
        raise InputError(f"workers: from 1 to {most}, {limit}, not {workers}")


def carry_out(
    folder: Path,
    plan: TrainingPlan,
    split: Split,
    device: str,
    workers: int,
    watch: Callable[[Epoch], None],
    each: Each = ignore_progress,
) -> None:
    """Train what is left; afterwards the folder has the state after the last epoch.

    Raises what the training itself may raise, and `LostError`; the folder then has the state after the last epoch
    that was whole.
    """
    check(workers, device, min(plan.train.batch_size, len(split.train_labels)))
    seen = len(training_folder.epochs_done(folder))
    if seen == plan.train.epochs:
        return
    cluster.quieten(QUIET)
    import ray

    with cluster.Cluster(None, plan.command) as here, cluster.scratch() as scratch:
        here.ready()
        logging.getLogger("ray").handlers = [logging.NullHandler()]  # what it has to say of a lost worker is said here
        config = {"folder": folder.resolve(), "plan": plan, "split": ray.put(split), "device": device}
        config |= {"news": scratch / "news", "declared": declarations.dump()}
        fitting = Fitting(config, workers, device, scratch)
        here.when_lost = fitting.lose
        fitting.start()
        ended = False
        while seen < plan.train.epochs and not ended:
            ended = fitting.ended.wait(LOOK_EVERY_S)
            if news := read_news(config["news"], seen):
                each(*news)
            for epoch in training_folder.epochs_done(folder)[seen:]:
                seen += 1
                watch(epoch)
    if seen < plan.train.epochs:
        raise fitting.error or LostError("the workers ended before the training did")


class Fitting(threading.Thread):
    """Ray Train at work, beside the main thread, which shows how far it is and can be interrupted."""

    def __init__(self, config: dict[str, Any], workers: int, device: str, scratch: Path) -> None:
        super().__init__(daemon=True)
        self.config, self.workers, self.device, self.scratch = config, workers, device, scratch
        self.ended = threading.Event()
        self.error: BaseException | None = None

    def lose(self, why: BaseException) -> None:
        """Ray has gone, which a training would wait for."""
        self.error = LostError(str(why))
        self.ended.set()

    def run(self) -> None:
        from ray.train import RunConfig, ScalingConfig, TrainingFailedError

        scaling = ScalingConfig(
            num_workers=self.workers, use_gpu=self.device == "cuda", resources_per_worker={"CPU": 1}
        )

        try:
            ray_private.torch_trainer()(
                rank,
                train_loop_config=self.config,
                scaling_config=scaling,
                run_config=RunConfig(name="train", storage_path=str(self.scratch)),
            ).fit()
        except TrainingFailedError as error:
            self.error = self.error or reason(getattr(error, "worker_failures", {}) or {0: error})
        except BaseException as error:
            self.error = self.error or error
        finally:
            self.ended.set()


def rank(config: dict[str, Any]) -> None:
    """What every worker does."""
    import ray
    from ray.train import torch as ray_torch

    declarations.adopt(config["declared"])
    group = ProcessGroup()
    device = config["device"]
    if device == "cuda":
        device = str(ray_torch.get_device())
    else:
        torch.set_num_threads(max(1, machine.cores() // group.size))
    begun = training_folder.resume(config["folder"], config["plan"], ray.get(config["split"]), device, group)
    if group.rank == 0:
        begun.each = News(config["news"], begun)
    training_folder.train_remaining(config["folder"], begun, lambda epoch: None, config["plan"].metric)


class News:
    """The first worker tells the driver how far it is, by a small file, at most twice a second (see `trainer.Each`)."""

    def __init__(self, path: Path, training: Training) -> None:
        self.path, self.training, self.said = path, training, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        if time.monotonic() - self.said >= LOOK_EVERY_S:
            self.said = time.monotonic()
            part = self.path.with_suffix(".part")
            part.write_text(json.dumps([self.training.done, what, done, total]))
            part.replace(self.path)


def read_news(path: Path, seen: int) -> tuple[str, int, int] | None:
    """What the first worker told last, if it is of the epoch after those `seen`."""
    try:
        epoch, what, done, total = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return (what, done, total) if epoch == seen + 1 else None


def reason(failures: dict[int, Exception]) -> Exception:
    """Why a process group failed, of what every rank says: where one is lost or fails, the others fail to reach it."""
    causes = {rank: ray_private.cause_of(failure) for rank, failure in failures.items()}
    for cause in causes.values():
        if isinstance(cause, OF_THE_TRAINING):
            return cause
    died = [rank for rank, failure in failures.items() if causes[rank] is failure]
    if died:
        return LostError(f"worker {died[0] + 1} of the training died")
    number, cause = next(iter(causes.items()))
    said = next(iter(str(cause).splitlines()), "")[:200]
    return LostError(f"worker {number + 1} of the training failed: {type(cause).__name__}: {said}")
