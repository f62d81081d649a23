"""The network that a command is given, by any of its names, and the images that are known to go with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nas.bundle import bundle
from nas.config import CONFIG, DataConfig, SearchConfig
from nas.full_training import training_folder
from searchspace.__main__ import network
from searchspace.arch import Arch
from searchspace.errors import InputError
from searchspace.networks import names

BEST, ARCH = "best.yaml", "arch.yaml"


@dataclass(frozen=True, slots=True)
class Subject:
    """A network, a name to call it by, and the images it was searched or trained on; None where nothing says which."""

    name: str
    arch: Arch
    data: DataConfig | None = None


def subject(text: str) -> Subject:
    """What a name of the zoo, a network's file or a folder stands for: of a folder the deployment network, of a search
    the best."""
    path = Path(text)
    if text in names() or not path.is_dir():
        if path.name not in (ARCH, BEST):
            return Subject(path.stem, network(text))
        folder = path.resolve().parent
        return Subject(folder.name, network(text), images(folder))
    if training_folder.is_folder(path):
        plan = training_folder.load_plan(path)
        return Subject(plan.name, plan.arch, plan.data)
    for file in (ARCH, BEST):
        if (path / file).is_file():
            return Subject(path.resolve().name, Arch.load(path / file), images(path))
    if (path / CONFIG).is_file():
        raise InputError(f"{path}: no trial of this search is complete yet")
    raise InputError(f"{path}: has neither an {ARCH} nor a {BEST}; an exported network or a zoo name is accepted")


def images(folder: Path) -> DataConfig | None:
    """The images that a search, a training or an export in a folder is of."""
    if (folder / CONFIG).is_file():
        return SearchConfig.load(folder).identity.data
    if training_folder.is_folder(folder):
        return training_folder.load_plan(folder).data
    return bundle.images(folder)
