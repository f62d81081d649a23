"""What a run is told. A configuration has an identity, which may not change when a run is carried on, and a conduct."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import field, fields, replace
from pathlib import Path
from typing import Any, Literal

from nas.metric import DEFAULT_METRIC, Metric
from nas.plugins import load_named
from searchspace.budget import OWN_COSTS, Budget
from searchspace.document import parse, plain, read_yaml, value, write_yaml
from searchspace.errors import InputError
from searchspace.space.space import FIT_BAND, Space


@value
class DataConfig:
    """Which images. `dataset` is `digits`, a folder, or a name on the Hugging Face hub; `images` says how many of its
    training images are used (None: all), and `validation` which share of these the search is scored on; with `spare`
    images that are not used otherwise score too, up to half as many as train.

    `flip` says whether training images are mirrored at random (None: as the classes' names say, see `mirroring`).
    `skip_bad` leaves out images that cannot be read. `data_range` is the value of 16-bit, 32-bit and float images that
    stands for white (None: 65,535 of whole numbers, 1 of floats). Where no resolution is asked for, images are made the
    size that is `typical` of them; in runs of before, that of the first. `base` is the working folder that a relative
    path of a dataset was given in: no part of what the images are.
    """

    dataset: str = "digits"
    validation: float = 0.2
    images: int | None = None
    flip: bool | None = None
    skip_bad: bool = False
    data_range: float | None = None
    spare: bool = False
    typical: bool = True
    base: str = field(default="", compare=False)

    @property
    def location(self) -> str:
        """The dataset's name, or its path as it is found from the working folder of now."""
        there = Path(self.base, self.dataset)
        return str(there) if self.base and self.base != os.getcwd() and there.exists() else self.dataset

    def __post_init__(self) -> None:
        if not 0.0 < self.validation < 1.0:
            raise ValueError(f"validation: a share between 0 and 1, not {self.validation}")
        if self.images is not None and self.images < 2:
            raise ValueError(f"images: at least 2, not {self.images}")
        if self.data_range is not None and not 0.0 < self.data_range < math.inf:
            raise ValueError(f"data-range: above 0, not {self.data_range:g}")


@value
class TrainConfig:
    """The recipe of training; experiments/search/recipe.py has what chose each number, proxy_rank.py the epochs.

    `resolution` None takes the images' own: 16 px at least, for brief training 64 at most. The learning rate rises to
    `learning_rate` over the share `warmup` of all steps, and falls to 0 by a cosine. `momentum` is SGD's, with
    Nesterov's step; AdamW has its own. `weight_decay` is of convolution and linear weights alone. `ema` above 0 scores
    and keeps a running average of the weights, which forgets with this factor a step. `mixup` and `cutmix` are the
    parameter of the Beta distribution that shares are drawn from, `randaugment` is its magnitude; 0 leaves them out.
    `qat` is the share of the epochs, the last ones, that train with weights and maps rounded to 8 bits. With
    `zero_residuals` residual branches add nothing at first, where they end with a norm; not in runs of before.
    """

    epochs: int = 4
    optimizer: Literal["sgd", "adamw"] = "adamw"
    batch_size: int = 64
    learning_rate: float = 0.008
    momentum: float = 0.9
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    warmup: float = 0.2
    resolution: int | None = None
    ema: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: int = 0
    qat: float = 0.0
    zero_residuals: bool = True

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("resolution", LEAST_PIXELS)):
            number = getattr(self, name)
            if number is not None and number < least:
                raise ValueError(f"{name}: at least {least}, not {number}")
        for name, most in (("epochs", 10**6), ("batch_size", 10**6), ("resolution", 4096)):
            if (getattr(self, name) or 0) > most:
                raise ValueError(f"{name}: at most {most:,}, not {getattr(self, name)}")
        if not 0.0 < self.learning_rate <= 1e38:
            raise ValueError(f"learning_rate: above 0 and at most 1e38, not {self.learning_rate:g}")
        for name in ("momentum", "weight_decay", "label_smoothing", "warmup"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name}: from 0 to below 1, not {getattr(self, name)}")
        if not 0.0 <= self.qat <= 1.0:
            raise ValueError(f"qat: a share of the epochs, from 0 (none) to 1, not {self.qat}")
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema: from 0 (none) to below 1, not {self.ema}")
        for name, most in (("mixup", 10), ("cutmix", 10), ("randaugment", 30)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: from 0 (none) to {most}, not {getattr(self, name)}")

    def words(self) -> str:
        """What it says, without what it leaves out: `optimizer sgd, batch size 32, …`."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.optimizer != "sgd":
            del settings["momentum"]
        kept = {name.replace("_", " "): value for name, value in settings.items() if value}
        return ", ".join(name if value is True else f"{name} {value}" for name, value in kept.items())


LARGEST, LEAST_PIXELS = 64, 2  # of images in training; at 1 px every map is one pixel
OWN_DATA = "own data"  # what a dataset is called where a training of somebody's own has its own
CALLER = "scored by the caller"  # what evaluates where somebody's own code asks and tells
CONFIG = "config.yaml"  # by which the folder of a search is known
DIGITS_RECIPE = TrainConfig(epochs=6, optimizer="sgd", batch_size=32, learning_rate=0.05, weight_decay=5e-4)


SAMPLES, EPOCHS = 40_000, (4, 20)  # that a trial is to see, and the epochs that it has for that


def trial_epochs(images: int) -> int:
    """How many epochs a trial has of so many images: as long as its network has to see enough of them for scores to
    rank networks, few images more often than many."""
    fewest, most = EPOCHS
    return max(fewest, min(most, math.ceil(SAMPLES / images))) if images else fewest  # of own data nothing is known


def recipe(dataset: str) -> TrainConfig:
    """The recipe that a dataset starts from; how many epochs trials have is said by `trial_epochs`."""
    return DIGITS_RECIPE if dataset == "digits" else TrainConfig()


def full_recipe(dataset: str) -> TrainConfig:
    """The recipe of a full training: many epochs, so a shorter share of them warms up, and weights are averaged."""
    return replace(recipe(dataset), epochs=30 if dataset == "digits" else 100, warmup=0.05, ema=0.999)


# What --minimize takes, as the field of `Cost` that it is.
CURRENCIES = {
    "macs": "macs",
    "params": "params",
    "latency": "latency_ms",
    "activations": "activations",
    "peak_memory": "peak_memory_bytes",
    "flash": "flash_bytes",
    "int8_arena": "int8_arena_bytes",
    "int8_flash": "int8_flash_bytes",
}


def currencies() -> dict[str, str]:
    """The same with the costs of the user's own, which are called as they are registered."""
    return {**CURRENCIES, **{name: name for name in OWN_COSTS}}


COST_SCORES = ("params", "macs", "activations")
SCORES = ("synflow", "naswot", "grad_norm", "zen", *COST_SCORES)


@value
class Prescreen:
    """How many proposals are drawn for a trial, the best of which is trained, and the score that says which is best."""

    draws: int = 1
    by: str = "naswot"

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise ValueError(f"prescreen: at least 1, not {self.draws}")
        if self.by not in SCORES:
            raise ValueError(f"prescreen-by {self.by!r}: {', '.join(SCORES)} is accepted")


@value
class SearchSpec:
    """What makes two runs the same search. `evaluate` is a training of somebody's own, as `module:function`; empty is
    the built-in one. `largest` is the most pixels that images are trained at where the recipe has no resolution.
    `prior`: whether the search begins from what ships of its space (see `nas.study.prior`), `horizon`: whether networks
    are judged by what longer trainings promise too (see `nas.study.horizon`); older runs do neither.
    """

    space: dict[str, Any]
    budget: tuple[str, ...]
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    sampler: str = "auto"
    seed: int = 0
    band: float = FIT_BAND
    controls: int = 4
    baselines: int = 0
    warm_start: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    prescreen: Prescreen = Prescreen()
    metric: Metric = DEFAULT_METRIC
    evaluate: str = ""
    largest: int = LARGEST
    prior: bool = False
    horizon: bool = False


@value
class Execution:
    """How a run is carried out; all of it may change when a run is carried on, but where its study is.

    `finalists` is how many networks enter the finals (None: as many as suit the trials, see `nas.study.finals`).
    `early_stopping`: whether trials that are behind are stopped (see `nas.study.early_stopping`).
    `gpus_per_trial` is a part of a GPU, or several whole ones (None: by the images, see `nas.workers.gpu_sharing`).
    `mps`: whether trials that share a GPU run side by side on it, where NVIDIA's daemon for that is installed.
    `storage` is the address of a database server, without a password, that has the study of the name `study`; empty
    where the run folder has it. `plugins` are the files that register blocks and costs of the user's own: whoever opens
    the run loads them.
    """

    trials: int = 16
    finalists: int | None = None
    early_stopping: bool = True
    concurrent: int | None = None
    device: str = "auto"
    gpus_per_trial: float | None = None
    time_limit_s: float | None = None
    trial_timeout_s: float | None = None
    cuda_graphs: bool = True
    mps: bool = True
    ray_address: str | None = None
    storage: str = ""
    study: str = ""
    plugins: tuple[str, ...] = ()
    command: str = ""


FINALISTS, TRIALS_PER_FINALIST = 4, 8  # the most by default, and how many trials there are for each
FEWEST_TRIALS = 12  # of fewer there is little to choose from, and a quarter are random

# What files keep with every number, so that what was begun goes on as it was when a default has changed.
SAVED_IN_FULL = (DataConfig, TrainConfig, Prescreen, SearchSpec)


@value
class SearchConfig:
    identity: SearchSpec
    conduct: Execution = Execution()
    space_name: str = "space"

    @property
    def space(self) -> Space:
        return Space(self.identity.space, self.space_name)

    @property
    def budget(self) -> Budget:
        return Budget.parse(self.identity.budget)

    @property
    def wanted(self) -> int | None:
        """The run's total of trials; None where its caller asks for as many as it likes."""
        return None if self.identity.evaluate == CALLER else self.conduct.trials

    def save(self, run: Path) -> None:
        title = "what this run is (identity) and how it is carried out (conduct)"
        write_yaml(run / CONFIG, plain(self, SAVED_IN_FULL), title)

    @classmethod
    def load(cls, run: Path) -> SearchConfig:
        """The configuration of a run folder; `InputError` where the folder is none."""
        path = run / CONFIG
        if not path.is_file():
            raise InputError(f"{run}: no run folder (it has no {CONFIG}); give the folder of a search")
        data, lines = read_yaml(path)
        with suppress(KeyError, TypeError):
            load_named(data["conduct"]["plugins"])
        with suppress(KeyError, TypeError):
            as_begun(data["identity"]["data"], data["identity"].get("train"))
        return parse(cls, data, str(path), lines)


def load_plugins(folder: Path) -> None:
    """Load the plugins of the run in a folder, where one is there."""
    if (folder / CONFIG).is_file():
        data, _ = read_yaml(folder / CONFIG)
        with suppress(KeyError, TypeError):
            load_named(data["conduct"]["plugins"])


def as_begun(images: Any, train: Any = None) -> None:
    """A file that says nothing of mirrored images was written when those of all datasets but digits were mirrored, one
    that says nothing of their size when it was that of the first, and one that says nothing of residual branches when
    these started as all else."""
    if isinstance(images, dict):
        images.setdefault("flip", images.get("dataset", "digits") != "digits")
        images.setdefault("typical", False)
    if isinstance(train, dict):
        train.setdefault("zero_residuals", False)


def resume(new: SearchSpec, old: SearchSpec) -> SearchSpec:
    """What a command asks of a run that exists: what was settled when the run began stays as it was."""
    flip = old.data.flip if new.data.flip is None else new.data.flip
    data = replace(as_written(new.data, old.data), flip=flip, typical=old.data.typical)
    train = replace(new.train, zero_residuals=old.train.zero_residuals)
    return replace(new, data=data, train=train, controls=old.controls, baselines=old.baselines)


def base_of(dataset: str) -> str:
    """The working folder, where a dataset is a relative path in it; "" of any other."""
    path = Path(dataset)
    return "" if dataset == DataConfig().dataset or path.is_absolute() or not path.exists() else os.getcwd()


def as_written(new: DataConfig, old: DataConfig) -> DataConfig:
    """The images with their folder's path as an older configuration writes it, where that is the same folder."""
    return replace(new, dataset=old.dataset, base=old.base) if is_same_folder(new, old) else new


def is_same_folder(one: DataConfig, other: DataConfig) -> bool:
    """Whether two datasets are one folder or file, however its path is written, and from wherever."""
    paths = Path(one.location), Path(other.location)
    return all(path.exists() for path in paths) and paths[0].resolve() == paths[1].resolve()


def differences(old: object, new: object) -> list[str]:
    """What differs between two identities of one kind, each as `name: old → new`."""
    before, after = (_flat(plain(one, (*SAVED_IN_FULL, Metric))) for one in (old, new))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and key != "data.base"]
    return [f"{key}: {_word(before.get(key, 'default'))} → {_word(after.get(key, 'default'))}" for key in keys]


def _word(value: object) -> object:
    return ("off", "on")[value] if isinstance(value, bool) else value


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, dict):
        pairs = [(f"{prefix}.{key}" if prefix else str(key), child) for key, child in data.items()]
    elif isinstance(data, (list, tuple)):
        pairs = [(f"{prefix}.{index}", child) for index, child in enumerate(data)]
    else:
        return {prefix: data}
    return {key: leaf for name, child in pairs for key, leaf in _flat(child, name).items()}


def same_images(kept: str, now: str) -> bool:
    """Whether two fingerprints are of the same images, as far as both know: labels, then files, then what they show.

    What images show is compared where the same Pillow decoded them.
    """
    (labels, files, shown), (labels_now, files_now, shown_now) = _parts_of(kept), _parts_of(now)
    if labels != labels_now or (files and files_now and files != files_now):
        return False
    (pixels, _, by), (pixels_now, _, by_now) = shown.partition("@"), shown_now.partition("@")
    return pixels == pixels_now or by != by_now or not (pixels and pixels_now)


def without_pixels(fingerprint: str) -> str:
    """A fingerprint that does not say what images show."""
    return "-".join(_parts_of(fingerprint)[:2])


def _parts_of(fingerprint: str) -> tuple[str, str, str]:
    labels, files, shown = [*fingerprint.split("-", 2), "", ""][:3]
    return labels, files, shown
