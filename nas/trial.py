"""A trial in its forms: a `Trial` goes to a worker, a `Result` comes back, the study keeps a `TrialRecord`."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from nas.metric import DEFAULT_METRIC, Metric
from searchspace.arch import Arch
from searchspace.budget import Cost
from searchspace.errors import InputError

Role = Literal["baseline", "control", "search"]
State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True)
class Final:
    """A training of the finals (see `nas.study.finals`): of the network of the search's trial `of`, in which round, for
    how many epochs, scored on which fold of the images. `equal`: of every fold as many images are trained on; in runs
    of before all that were left."""

    of: int
    round: int
    epochs: int
    fold: int
    equal: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One network to train. `role` is `control` for the random networks that every search is compared with, and
    `baseline` for a known network, scaled to the budget, whose name is then in `baseline`. `point`, `width_mult` and
    `settled` are what the space makes `arch` of (see `Candidate`). `resolutions` are the space's smallest and largest,
    where it has several. `final` says of a training of the finals what it is."""

    number: int
    arch: Arch
    cost: Cost
    role: Role
    point: dict[str, Any] = field(default_factory=dict)
    width_mult: float = 1.0
    settled: tuple[int, ...] = ()
    baseline: str = ""
    resolutions: tuple[int, int] | None = None
    final: Final | None = None

    @property
    def digest(self) -> str:
        return self.arch.digest

    @property
    def training(self) -> str:
        """What tells this training from others, of other networks and of the same from other seeds."""
        return training(self.digest, self.final)

    def to_text(self) -> str:
        """As JSON, to cross to a worker."""
        return json.dumps({**asdict(self), "arch": self.arch.to_dict()})

    @classmethod
    def of_text(cls, text: str) -> Trial:
        data = json.loads(text)
        arch, settled = Arch.from_dict(data["arch"]), tuple(data["settled"])
        cost = Cost(**{**data["cost"], "own": tuple((name, spent) for name, spent in data["cost"]["own"])})
        resolutions = tuple(data["resolutions"]) if data["resolutions"] else None
        final = Final(**data["final"]) if data["final"] else None
        made = {"arch": arch, "cost": cost, "settled": settled, "resolutions": resolutions, "final": final}
        return cls(**{**data, **made})


def training(digest: str, final: Final | None) -> str:
    """See `Trial.training`."""
    return f"{digest}-{final.round}-{final.epochs}-{final.fold}" if final else digest


def proxy(arch: Arch, num_classes: int, pixels: int, resolutions: tuple[int, int] | None = None) -> Arch:
    """What brief training trains of a network, with images of so many pixels.

    Of a space with several `resolutions` (the smallest, the largest) only the largest trains at the images' own pixels
    and every other one in proportion; strides are relaxed for all alike, as the smallest needs it. Else a wider
    network at a lower resolution would be trained at more than it may cost, and win for nothing.
    """
    smallest, largest = resolutions or (arch.resolution, arch.resolution)
    own, least = (max(1, round(pixels * side / largest)) for side in (arch.resolution, smallest))
    return arch.adapt(num_classes, own, relaxed_at=least)


# Which images were answered right: their number (at first without one), a colon, hexadecimal digits of packed bits.
CORRECT = r"([1-9][0-9]{0,8}:)?([0-9a-f]{2})*"
MOST = 10**9  # images and epochs


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker measured by the end of one epoch; `error` says why a trial cannot go on.

    `score` (of the run's metric) and `loss` are of the validation images; `images_per_s` of training alone; None is
    what an own training does not say. `seconds` since the trial's start, all included; `contended_ms` of one image
    through the deployment network on the worker's device, while other trials ran. `images` is how many images the score
    is measured on, where that is known. `last` is the result that a training ends with. `correct` says of every
    validation image whether it was answered right: their number, a colon and hexadecimal digits of packed bits; empty
    where that was not asked for. `note` is what a person should read in the run's log.
    """

    epoch: int = 0
    score: float = 0.0
    loss: float | None = None
    train_loss: float | None = None
    images_per_s: float | None = None
    seconds: float = 0.0
    contended_ms: float = 0.0
    images: int = 0
    last: bool = False
    error: str = ""
    correct: str = ""
    note: str = ""

    @property
    def done(self) -> bool:
        """Whether there will not be another."""
        return self.last or bool(self.error)

    def plain(self) -> Result:
        """The same with plain numbers and texts in place of NumPy's and PyTorch's, which no study keeps; `InputError`
        for a field that is none."""
        if not isinstance(self.correct, str) or not re.fullmatch(CORRECT, self.correct):
            accepted = "how many images, a colon and hexadecimal digits of packed bits are accepted"
            raise InputError(f"correct: {accepted}, not {self.correct!r:.80}")
        return Result(
            epoch=_count("epoch", self.epoch),
            score=_number("score", self.score),
            loss=None if self.loss is None else _number("loss", self.loss),
            train_loss=None if self.train_loss is None else _number("train_loss", self.train_loss),
            images_per_s=None if self.images_per_s is None else _number("images_per_s", self.images_per_s),
            seconds=_number("seconds", self.seconds),
            contended_ms=_number("contended_ms", self.contended_ms),
            images=_count("images", self.images),
            last=bool(self.last),
            error=_text("error", self.error),
            correct=self.correct,
            note=_text("note", self.note),
        )

    @classmethod
    def of(cls, reported: dict[str, Any]) -> Result:
        """Out of what a framework reports, which adds to it."""
        return cls(**{f.name: reported[f.name] for f in fields(cls) if f.name in reported})


def _number(name: str, given: Any) -> float:
    """A number of any library, as Python's."""
    try:
        if isinstance(given, (bool, str, bytes)):
            raise TypeError
        return float(given)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name}: a number is accepted, not {given!r:.80}") from None


def _count(name: str, given: Any) -> int:
    """A whole number of any library, as Python's."""
    try:
        number = operator.index(given)
    except (TypeError, ValueError, RuntimeError):
        number = -1
    if isinstance(given, bool) or not 0 <= number < MOST:
        raise InputError(f"{name}: a whole number from 0 to {MOST:,} is accepted, not {given!r:.80}")
    return number


def _text(name: str, given: Any) -> str:
    """A text that can be written to a file."""
    if not isinstance(given, str):
        raise InputError(f"{name}: a text is accepted, not {given!r:.80}")
    return given.encode("utf-8", "replace").decode()


def after_trials(busy: str) -> str:
    """When the best networks' latencies were measured, for a sentence; `busy` says what else went on then."""
    return "once the trials had ended" + (f", at {busy}: perhaps too long" if busy else "")


def arch_of(text: str, number: int) -> Arch:
    """The network that a study keeps of a trial; `InputError` where that is damaged."""
    try:
        network = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"trial {number}: its network cannot be read; the study may be damaged") from None
    return Arch.from_dict(network, f"trial {number}")


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """A trial as the study keeps it: its network, how it ended, its score after every epoch, what was measured.

    `score` is the final one, or of a trial that did not end the last one; None before the first epoch. `metric` is what
    it is a score of. `cost.latency_ms` are predicted milliseconds, `contended_ms` were measured while other trials ran,
    `alone_ms` once none did. `minimized` are the costs that the study minimises, by name. `in_place_of` is the
    interrupted trial whose network it has again, `driver` who asked it where several share the study. `final` and
    `correct` are of trainings of the finals (see `Final`, `Result`), `notes` what a caller of `Study.tell` added.
    """

    number: int
    state: State
    score: float | None
    curve: dict[int, float]
    point: dict[str, Any]
    role: Role
    cost: Cost
    digest: str = ""
    baseline: str = ""
    width_mult: float = 1.0
    settled: str = ""
    network: str = ""
    arch_text: str = ""
    metric: Metric = DEFAULT_METRIC
    loss: float | None = None
    train_loss: float | None = None
    images_per_s: float | None = None
    seconds: float | None = None
    contended_ms: float | None = None
    alone_ms: float | None = None
    minimized: dict[str, float] = field(default_factory=dict)
    in_place_of: int | None = None
    error: str = ""
    driver: str = ""
    final: Final | None = None
    correct: str = ""
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def arch(self) -> Arch:
        """The deployment network; `InputError` where the study is damaged there."""
        return arch_of(self.arch_text, self.number)

    @property
    def name(self) -> str:
        """What people know it by: a known network's name, else its role."""
        return self.baseline or self.role

    @property
    def epochs(self) -> int:
        """How many epochs it was trained."""
        return max(self.curve, default=0)

    @property
    def predicted_ms(self) -> float | None:
        return self.cost.latency_ms

    @property
    def gain(self) -> float | None:
        """The score as a number of which more is better."""
        return None if self.score is None else self.metric.gain(self.score)

    def gain_after(self, epochs: int) -> float | None:
        """The same after so many epochs; None where it was not trained that long."""
        return self.metric.gain(self.curve[epochs]) if epochs in self.curve else None

    def interval(self, images: int) -> tuple[float, float] | None:
        """The 90 % interval of the score on so many images, where the metric has one."""
        return None if self.score is None else self.metric.scores_within(self.score, images)


def rank(records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """The complete trials, best first: by score, then less of what is minimised, then lower loss (an unknown one is the
    worst), then lower number."""
    return sorted((record for record in records if record.state == "complete"), key=_best_first)


def _best_first(record: TrialRecord) -> tuple[float, tuple[float, ...], float, int]:
    unknown = record.loss is None or math.isnan(record.loss)
    gain = -math.inf if record.gain is None else record.gain
    loss = math.inf if unknown or record.loss is None else record.loss
    return -gain, tuple(record.minimized.values()), loss, record.number
