"""The network that a command is given, by any of its names, and the images that are known to go with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nas.bundle import bundle
from nas.bundle.card import is_found
from nas.config import CALLER, CONFIG, OWN_DATA, DataConfig, load_plugins
from nas.data.datasets import IN_MEMORY
from nas.full_training import training_folder
from nas.metric import DEFAULT_METRIC, Metric
from nas.run.run import Run
from searchspace.arch import Arch
from searchspace.budget import Budget
from searchspace.errors import InputError
from searchspace.networks import names
from searchspace.space.lookup import OF_FOLDERS, file_of, network

NAMELESS = (IN_MEMORY, OWN_DATA)  # images that only Python had


@dataclass(frozen=True, slots=True)
class Subject:
    """A network, a name to call it by, the images it was searched or trained on (None where nothing says which), what
    it was scored by, the `budget` of its search, and of a trained one the `classes` in the order of its outputs."""

    name: str
    arch: Arch
    data: DataConfig | None = None
    metric: Metric = DEFAULT_METRIC
    budget: Budget | None = field(default=None, compare=False)
    classes: tuple[str, ...] = field(default=(), compare=False)


def subject(text: str) -> Subject:
    """What a name of the zoo, a network's file or a folder stands for: of a folder the deployment network, of a search
    the best."""
    path = Path(text)
    load_plugins(path if path.is_dir() else path.parent)
    if text in names() or not path.is_dir():
        if path.name not in OF_FOLDERS:
            return Subject(path.stem, network(text))
        folder = path.resolve().parent
        return of_folder(folder, network(text))
    if training_folder.is_folder(path):
        plan = training_folder.load_plan(path)
        return Subject(plan.name, plan.arch, plan.data, plan.metric, classes=classes_of(path))
    if (file := file_of(path)) is not None:
        return of_folder(path.resolve(), Arch.load(file))
    if (path / CONFIG).is_file():
        raise InputError(f"{path}: no trial of this search is complete yet")
    raise InputError(
        f"{path}: has neither an {' nor a '.join(OF_FOLDERS)}; an exported network or a zoo name is accepted"
    )


def of_folder(folder: Path, arch: Arch) -> Subject:
    """A network of a search's or an export's folder."""
    searched = Run.config_of(folder)
    budget = searched.budget if searched and searched.identity.evaluate != CALLER else None
    return Subject(folder.name, arch, images(folder), metric_of(folder), budget, classes_of(folder))


def classes_of(folder: Path) -> tuple[str, ...]:
    """The classes that a folder's weights were trained on; none where nothing says it."""
    known = bundle.read_record(folder).get("classes")
    return tuple(known) if isinstance(known, list) else ()


def metric_of(folder: Path) -> Metric:
    """What the networks of a search were scored by, where a full training can measure that too."""
    searched = Run.config_of(folder)
    if searched is None or (searched.identity.evaluate and searched.identity.metric != DEFAULT_METRIC):
        return DEFAULT_METRIC
    return searched.identity.metric


def images(folder: Path) -> DataConfig | None:
    """The images that a search, a training or an export in a folder is of."""
    searched = Run.config_of(folder)
    if searched is not None:
        data = searched.identity.data
        return None if data.dataset in NAMELESS else data
    if training_folder.is_folder(folder):
        return training_folder.load_plan(folder).data
    exported = bundle.data_of(folder)
    return exported if exported and is_found(exported) else None
