"""What a folder of images holds: one folder per class, in folders of splits or without. No pixels here.

Splits are told by the names of top-level folders alone, and classes by folders alone: a file's name says nothing.
Nothing is left out in silence: `notes` says what was.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from nas.data.labelled import count_of
from searchspace.errors import InputError

SPLITS = {
    "train": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
EXTENSIONS = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".jp2",
        ".j2k",
    }
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".ico", ".tga", ".npy", ".npz"}
)
SKIPPED = frozenset({"__pycache__", "__MACOSX"})
SHOWN, KINDS_SHOWN = 5, 8
MOST_WAYS = 100  # to one folder, by links: two per folder are 2 ** n ways after n folders
TOLD_EVERY = 1000

Listed = Callable[[int], None]


@dataclass(slots=True)
class _Found:
    """The images below one folder, by the class folder they are in; those directly in it are in ""."""

    classes: dict[str, list[str]] = field(default_factory=dict)
    empty: list[str] = field(default_factory=list)

    @property
    def own(self) -> list[str]:
        return self.classes.get("", [])

    @property
    def images(self) -> int:
        return sum(map(len, self.classes.values()))

    @property
    def labelled(self) -> dict[str, list[str]]:
        return {name: files for name, files in self.classes.items() if name and files}


@dataclass(frozen=True, slots=True)
class ImageFolder:
    """Images by split (train, validation, test), each a path below `root` and the name of its class, sorted by path.

    `notes` are sentences about what is there and not used, or not as one may think.
    """

    root: Path
    splits: dict[str, list[tuple[str, str]]]
    notes: tuple[str, ...]


def image_folder(root: Path, listed: Listed | None = None) -> ImageFolder | None:
    """The images of a folder; None where no folder in it has any.

    `InputError` says where images are in folders from whose names no classes can be told.
    """
    left_out: Counter[str] = Counter()
    walk = _walk(root, left_out, listed)
    tops: dict[str, _Found] = {}
    loose = 0
    for parts, images in walk:
        if not parts:
            loose = len(images)
            continue
        top = tops.setdefault(parts[0], _Found())
        files = top.classes.setdefault(parts[1] if len(parts) > 1 else "", [])
        files += ["/".join([*parts, name]) for name in images]
    filled = {name: found for name, found in tops.items() if found.images}
    if not filled:
        return None
    named = _splits_of(root, filled)
    notes = _loose(loose, left_out)
    if named:
        return _in_splits(root, tops, named, notes)
    if apart := _splits_beside(filled):
        classes = {name: found for name, found in tops.items() if name not in apart}
        train = _Found(
            {name: [path for files in one.classes.values() for path in files] for name, one in classes.items()}
        )
        return _in_splits(root, {"train": train, **{name: tops[name] for name in apart}}, {"train", *apart}, notes)
    return _all_training(root, tops, notes)


def first_images(root: Path, number: int) -> list[str]:
    """The first image of each of some folders below a root, without a look at the others."""
    found = (("/".join([*parts, min(images)])) for parts, images in _walk(root, Counter(), None) if parts and images)
    return list(islice(found, number))


def _walk(root: Path, left_out: Counter[str], listed: Listed | None) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every folder below a root as (its path's parts, the names of its images), with what is no image counted."""
    waiting: list[tuple[tuple[str, ...], frozenset[tuple[int, int]]]] = [((), frozenset())]
    number, ways = 0, Counter[tuple[int, int]]()
    while waiting:
        parts, above = waiting.pop()
        folder = root.joinpath(*parts)
        images: list[str] = []
        try:
            status = folder.stat()
            here = (status.st_dev, status.st_ino)
            if here in above:  # a link to a folder that it is in
                continue
            ways[here] += 1
            if ways[here] > MOST_WAYS:
                raise InputError(f"dataset {root}: links lead to one folder in more than {MOST_WAYS} ways: {folder}")
            for entry in os.scandir(folder):
                if entry.name.startswith(".") or entry.name in SKIPPED:
                    left_out["hidden"] += 1
                elif entry.is_dir():
                    waiting.append(((*parts, entry.name), above | {here}))
                elif os.path.splitext(entry.name)[1].lower() in EXTENSIONS and entry.is_file():
                    images.append(entry.name)
                else:
                    left_out[_kind(entry)] += 1
                number += 1
                if listed is not None and number % TOLD_EVERY == 0:
                    listed(number)
        except OSError as error:
            raise InputError(f"dataset {folder}: cannot be read ({error.strerror})") from None
        yield parts, images


def _kind(entry: os.DirEntry[str]) -> str:
    if not entry.is_file():
        return "broken link or device"
    return printable(os.path.splitext(entry.name)[1].lower()) or "without extension"


def printable(name: str) -> str:
    """A file's name as text that any terminal and file can take: line ends and bytes that are no text written out."""
    name = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in name)


def _splits_of(root: Path, filled: dict[str, _Found]) -> set[str]:
    """Which top-level folders are splits; none where all of them are classes.

    A split holds class folders and no image of its own. Beside folders with other names, that a folder is called like
    a split counts only where two are.
    """
    named = {name for name in filled if name.lower() in SPLITS}
    splits = {name for name in named if filled[name].labelled and not filled[name].own}
    splits |= {name for name in named if len(filled[name].labelled) > 1}
    train = {name for name in splits if SPLITS[name.lower()] == "train"}
    if len(named) < len(filled):
        return splits if train and len(splits) > 1 else set()
    if not train:
        raise InputError(
            f"dataset {root}: its folders are {_names(named)}, and no train folder holds one folder per class; "
            "accepted are one folder per class, or such folders in train (and test, validation)"
        )
    return named


def _splits_beside(filled: dict[str, _Found]) -> set[str]:
    """Splits beside the classes themselves: they hold a folder of every class, or of some, and nothing else."""
    named = {name for name in filled if name.lower() in SPLITS}
    classes = filled.keys() - named
    whole = {name for name in named if not filled[name].own and len(filled[name].labelled) > 1}
    return whole if whole == named and all(filled[name].labelled.keys() <= classes for name in whole) else set()


def _in_splits(root: Path, tops: dict[str, _Found], named: set[str], notes: list[str]) -> ImageFolder:
    splits: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(named):
        kind, found = SPLITS[name.lower()], tops[name]
        images = [(path, label) for label, files in found.labelled.items() for path in files]
        splits.setdefault(kind, []).extend(images)
        if found.own:
            notes.append(f"{count_of(len(found.own), 'image')} of {name} in no class folder, left out")
        empty = [label for label, files in found.classes.items() if label and not files]
        if empty:
            notes.append(f"{_folders(empty)} of {name} {_have(empty)} no image: no class")
    others = [name for name in tops if name not in named]
    if lost := sum(tops[name].images for name in others):
        notes.append(
            f"{count_of(lost, 'image')} left out: {_folders(others)} beside {_names(named)} {_are(others)} no split"
        )
    kept = {kind: sorted(images) for kind, images in splits.items() if images}
    known = {label for _, label in kept["train"]}
    for kind in ("validation", "test"):
        strange = Counter(label for _, label in kept.get(kind, ()) if label not in known)
        if strange:
            number, classes = sum(strange.values()), _names(strange)
            notes.append(
                f"{count_of(number, f'{kind} image')} left out: of {classes}, of which there is no training image"
            )
            kept[kind] = [(path, label) for path, label in kept[kind] if label in known]
        untold = known - {label for _, label in kept.get(kind, ())}
        if untold and kept.get(kind):
            notes.append(f"of {_names(untold)} there is no {kind} image")
    return _check_classes(ImageFolder(root, {kind: images for kind, images in kept.items() if images}, tuple(notes)))


def _all_training(root: Path, tops: dict[str, _Found], notes: list[str]) -> ImageFolder:
    empty = [name for name, found in tops.items() if not found.images]
    if empty:
        notes.append(f"{_folders(empty)} {_have(empty)} no image: no class")
    named = [name for name, found in tops.items() if name.lower() in SPLITS and found.images]
    if named:
        notes.append(f"{_folders(named)} {_are(named)} taken for {'a class' if len(named) == 1 else 'classes'}")
    inner = [set(found.labelled) for found in tops.values() if found.images]
    if len(common := set.intersection(*inner)) > 1:
        notes.append(
            f"every folder holds folders of the same names ({_names(common)}): if these are the classes, name the "
            "folders above them train and test"
        )
    images = sorted((path, top) for top, found in tops.items() for files in found.classes.values() for path in files)
    return _check_classes(ImageFolder(root, {"train": images}, tuple(notes)))


def _check_classes(folder: ImageFolder) -> ImageFolder:
    """At least two classes; where one folder holds folders of images, that is probably the one that was meant."""
    classes = sorted({label for _, label in folder.splits["train"]})
    if len(classes) > 1:
        return folder
    below = {path.split("/")[1] for path, _ in folder.splits["train"] if path.count("/") > 1}
    inner = folder.root / classes[0]
    meant = f"; {inner} has {len(below)} folders of images" if len(below) > 1 else ""
    raise InputError(
        f"dataset {folder.root}: at least two folders of images are accepted, one per class, named by it; "
        f"there is {_names(classes)} alone{meant}"
    )


def _loose(images: int, left_out: Counter[str]) -> list[str]:
    notes = []
    if images:
        notes.append(f"{count_of(images, 'image')} beside the class folders, in no class, left out")
    if left_out:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in left_out.most_common(KINDS_SHOWN))
        more = f" and {len(left_out) - KINDS_SHOWN} more kinds" if len(left_out) > KINDS_SHOWN else ""
        notes.append(f"left out, as they are no images: {kinds}{more}")
    return notes


def _names(names: Counter[str] | set[str] | list[str]) -> str:
    """Some of the names, and how many more there are."""
    shown = [repr(printable(name)) for name in sorted(names)[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(shown) + more


def _folders(names: list[str]) -> str:
    return f"the folder{'s' * (len(names) > 1)} {_names(names)}"


def _have(names: list[str]) -> str:
    return "have" if len(names) > 1 else "has"


def _are(names: list[str]) -> str:
    return "are" if len(names) > 1 else "is"
