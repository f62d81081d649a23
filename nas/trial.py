"""The records that cross a process boundary: `Trial` to a worker, `Result` back. Plain values, no framework."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from searchspace.arch import Arch
from searchspace.budget import Cost

Role = Literal["baseline", "control", "search"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One network to train. `role` is `control` for the random networks that every search is compared with, and
    `baseline` for a known network, scaled to the budget, whose name is then in `baseline`. `point`, `width_mult` and
    `settled` are what the space makes `arch` of (see `Candidate`). `resolutions` are the space's smallest and largest,
    where it has several."""

    number: int
    arch: Arch
    cost: Cost
    role: Role
    point: dict[str, Any] = field(default_factory=dict)
    width_mult: float = 1.0
    settled: tuple[int, ...] = ()
    baseline: str = ""
    resolutions: tuple[int, int] | None = None

    @property
    def digest(self) -> str:
        return self.arch.digest

    def to_text(self) -> str:
        """As JSON, to cross to a worker."""
        return json.dumps({**asdict(self), "arch": self.arch.to_dict()})

    @classmethod
    def of_text(cls, text: str) -> Trial:
        data = json.loads(text)
        arch, cost, settled = Arch.from_dict(data["arch"]), Cost(**data["cost"]), tuple(data["settled"])
        resolutions = tuple(data["resolutions"]) if data["resolutions"] else None
        return cls(**{**data, "arch": arch, "cost": cost, "settled": settled, "resolutions": resolutions})


def proxy(arch: Arch, num_classes: int, pixels: int, resolutions: tuple[int, int] | None = None) -> Arch:
    """What brief training trains of a network, with images of so many pixels.

    Of a space with several `resolutions` (the smallest, the largest) only the largest trains at the images' own pixels
    and every other one in proportion; strides are relaxed for all alike, as the smallest needs it. Else a wider
    network at a lower resolution would be trained at more than it may cost, and win for nothing.
    """
    smallest, largest = resolutions or (arch.resolution, arch.resolution)
    own, least = (max(1, round(pixels * side / largest)) for side in (arch.resolution, smallest))
    return arch.adapt(num_classes, own, relaxed_at=least)


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker measured by the end of one epoch; `error` says why a trial cannot go on.

    `accuracy` and `loss` are of the validation images; `images_per_s` of training alone; `seconds` since the trial's
    start, all included; `latency_ms` of one image through the deployment network on the worker's device.
    """

    epoch: int = 0
    accuracy: float = 0.0
    loss: float = 0.0
    train_loss: float = 0.0
    images_per_s: float = 0.0
    seconds: float = 0.0
    latency_ms: float = 0.0
    done: bool = False
    error: str = ""

    @classmethod
    def of(cls, reported: dict[str, Any]) -> Result:
        """Out of what a framework reports, which adds to it."""
        return cls(**{f.name: reported[f.name] for f in fields(cls) if f.name in reported})


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial as the study keeps it: how it ended, its validation accuracy after every epoch, what was measured.

    `accuracy` is the final one, or of a trial that did not end the last one; None before the first epoch.
    """

    number: int
    outcome: Literal["running", "complete", "pruned", "failed"]
    accuracy: float | None
    curve: dict[int, float]
    point: dict[str, Any]
    measured: dict[str, Any]

    @property
    def role(self) -> Role:
        role: Role = self.measured["role"]
        return role


def best_first(accuracy: float | None, loss: float | None, number: int) -> tuple[float, float, int]:
    """The key that sorts trials: higher accuracy, then lower loss (an unknown one is the worst), then lower number."""
    unknown = loss is None or math.isnan(loss)
    return -(accuracy or 0.0), math.inf if unknown or loss is None else loss, number
