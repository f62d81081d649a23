"""A training's epochs as an event file for TensorBoard, beside metrics.csv."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.metric import DEFAULT_METRIC, Metric
from nas.training.trainer import Epoch
from searchspace.errors import InputError

FOLDER = "tensorboard"
SCALARS = {"loss/train": "train_loss", "loss/validation": "loss", f"{DEFAULT_METRIC.name}/validation": "score"}


def require() -> None:
    """`InputError` that says what to install where event files cannot be written."""
    if importlib.util.find_spec("tensorboardX") is None:
        raise InputError("--tensorboard needs tensorboardX: pip install 'cnn-budget-search[train]'")


@contextmanager
def open_writer(out: Path, wanted: bool, metric: Metric = DEFAULT_METRIC) -> Iterator[Callable[[Epoch], None]]:
    """What writes an epoch's numbers to OUT/tensorboard; where that is not wanted, what does nothing."""
    if not wanted:
        yield lambda epoch: None
        return
    from tensorboardX import SummaryWriter

    def write(epoch: Epoch) -> None:
        for name, field in SCALARS.items():
            writer.add_scalar(name, getattr(epoch, field), epoch.number)
        if epoch.other is not None:
            writer.add_scalar(f"{metric.name}/validation", epoch.other, epoch.number)
        writer.add_scalar("images_per_s", epoch.images_per_s, epoch.number)
        writer.flush()

    with SummaryWriter(str(out / FOLDER)) as writer:
        yield write
