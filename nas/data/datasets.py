"""Images as two plain arrays: digits, any Hugging Face dataset, a local folder; stratified splits. No torch here.

The search sees training images only, split into those that train and those that score; `load_test` is for `nas.train`
alone. Everything is decoded once, by the driver, and shared with the workers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from numbers import Integral
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from nas.config import LARGEST, DataConfig
from nas.data.arrays import as_images, as_labels, class_names, contents
from nas.data.decoding import (
    SMALLEST,
    Decoded,
    Form,
    Images,
    Progress,
    Source,
    decode,
    join,
    part,
    pixels,
    shorter_sides,
)
from nas.data.holding_out import hold_out, list_names, name_unscored
from nas.data.image_folder import ImageFolder, first_images, image_folder
from nas.data.labelled import Labelled, Rows, count_of, purposes
from nas.data.labelled import Labels as Labels
from nas.data.mirroring import may_mirror
from nas.data.pictures import File, misfit
from nas.data.repeats import repetitions
from nas.data.tabular import first_records, of_table, split_names, tabular
from searchspace.errors import InputError

IN_MEMORY = "in memory"  # what a dataset is called that no name or folder has
DIGITS = tuple(map(str, range(10)))
PEEKED = 8
DARK, LOOKED_AT = 64, 500
MEASURED = 25  # images whose sides tell what size is typical
SPARE = 0.5  # images that score, beside one that trains, where they are not needed otherwise
FOLDS = 2  # that can be held out beside the validation images, so that no image is in two
HASHED_BYTES, HASHED_AT_ONCE = 1 << 30, 1024
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Split:
    """Images (N, C, H, W) as uint8 and labels (N,), to train and to score. `flip`: mirrored is the same class.

    `found` is the number of training images that are there, whether used or not. `mirroring` says why images are
    mirrored or not; `notes` are sentences about what was left out and what is used for what.
    """

    name: str
    train_images: Images
    train_labels: Labels
    val_images: Images
    val_labels: Labels
    classes: tuple[str, ...]
    flip: bool
    data: DataConfig = field(default_factory=DataConfig)
    found: int = 0
    mirroring: str = ""
    notes: tuple[str, ...] = ()
    contents: str = ""

    @classmethod
    def of(
        cls,
        images: Any,
        labels: Any,
        classes: Sequence[str] | Mapping[Any, str] | None = None,
        validation: float = 0.2,
        seed: int = 0,
        flip: bool | None = None,
        name: str = IN_MEMORY,
    ) -> Split:
        """A split of images that are in memory: (N, H, W), (N, H, W, C) or (N, C, H, W), uint8 or floats from 0 to 1.

        `labels` are numbers or names, one per image; `classes` name them in their sorted order, or by label. The share
        `validation` is held out by class and `seed` to score on. `flip` None mirrors training images unless the
        classes' names speak of sides, digits or text; numbers alone are no names. `InputError` for what does not fit
        together.
        """
        found = as_images(images)
        numbers, kinds, named = as_labels(labels, len(found))
        kinds = class_names(classes, kinds)
        try:
            config = DataConfig(name, validation, flip=flip)
        except (TypeError, ValueError) as error:
            raise InputError(f"split: {error}") from None
        if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
            raise InputError(f"seed: a whole number from 0 is accepted, not {seed!r}")
        train, val = _stratify(numbers, config.validation, seed, name, kinds)
        mirror, why = may_mirror(kinds, named or classes is not None) if flip is None else (flip, "as the caller says")
        parts = found[train], numbers[train], found[val], numbers[val]
        notes = _darkness(found, "255 is white in uint8, 1 in floats")
        return cls(name, *parts, kinds, mirror, config, len(found), why, notes, contents(found))

    def fold(self, number: int, equal: bool = False) -> Split:
        """The same images with others held out to score on: 0 is the split itself; of others, up to `FOLDS`, none has
        an image that is held out in another. The same for the same split. `equal`: as many are trained on as in the
        split, also where it scores on more images than could be held out of those that it trains on; else all."""
        if number == 0:
            return self
        rest, most = np.arange(len(self.train_labels)), len(self.train_labels) // (FOLDS + (not equal))
        held = rest
        for fold in range(number):
            kept, out = hold_out(self.train_labels[rest], min(len(self.val_labels), most), fold)
            rest, held = rest[kept], rest[out]
        others = np.setdiff1d(np.arange(len(self.train_labels)), held)
        images, labels = join(self.train_images, self.val_images), np.concatenate([self.train_labels, self.val_labels])
        used = np.concatenate([others, np.arange(len(self.train_labels), len(labels))])
        if equal and len(used) > len(self.train_labels):
            used = used[hold_out(labels[used], len(used) - len(self.train_labels), number)[0]]
        return replace(
            self,
            train_images=part(images, used),
            train_labels=labels[used],
            val_images=part(self.train_images, held),
            val_labels=self.train_labels[held],
        )

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def commonest(self) -> float:
        """The share of the images to score on that are of the commonest class."""
        return float(np.bincount(self.val_labels).max() / len(self.val_labels))

    @property
    def fingerprint(self) -> str:
        """What tells the classes, the labels of all images, their files and what they show from those of others (see
        `config.same_images`)."""
        parts = (json.dumps(self.classes).encode(), self.train_labels.tobytes(), self.val_labels.tobytes())
        labels = hashlib.sha256(b"|".join(parts)).hexdigest()[:16]
        return f"{labels}-{self.contents}" if self.contents else labels

    @property
    def resolution(self) -> int:
        return int(self.train_images.shape[-1])

    @property
    def channels(self) -> int:
        return int(self.train_images.shape[1])


def load(
    config: DataConfig,
    seed: int,
    resolution: int | None = None,
    progress: Progress | None = None,
    largest: int = LARGEST,
    channels: int = 3,
) -> Split:
    """The training images of a dataset, split by class and seed; `InputError` says what is wrong with them.

    Without a `resolution` they have their own, from 16 px to `largest`. `channels` are those of the network.
    """
    name = config.location
    found = _training(name, progress)
    if name != "digits":
        return _decode_split(found, name, config, seed, resolution, progress, largest, channels)
    there = _digits(test=False, size=resolution or SMALLEST, channels=channels)
    used, share = _choose_images(found, config, seed, name)
    return _make_split(found, name, config, share, seed, there[0][used], found.labels[used])


def _decode_split(
    found: Labelled,
    name: str,
    config: DataConfig,
    seed: int,
    resolution: int | None,
    progress: Progress | None,
    largest: int,
    channels: int,
) -> Split:
    """The images that are used of what was found, decoded and split."""
    used, share = _choose_images(found, config, seed, name)
    source = found.images(used)
    size, said = (resolution, ()) if resolution else _own_size(found, used, config.typical, channels, largest)
    made = decode(source, Form(channels, size, config.data_range), config.skip_bad, progress)
    notes = _notes(made) + said + _darkness(made.images)
    known = f"{source.contents}-{content_of(made.images)}"
    return _make_split(found, name, config, share, seed, made.images, found.labels[used][made.rows], notes, known)


def _own_size(found: Labelled, used: Rows, typical: bool, channels: int, largest: int) -> tuple[int, tuple[str, ...]]:
    """The pixels that images have by themselves, from SMALLEST to `largest`, and a word where some have fewer: the
    median of the shorter sides of MEASURED of them, or the first one's."""
    rows = used[:: max(1, len(used) // MEASURED)] if typical else used
    sides = shorter_sides(found.images(rows), channels)
    known = sorted(sides) if typical else list(islice(sides, 1))
    if not known:
        return SMALLEST, ()  # of what cannot be read `decode` has more to say
    size = min(max(median_low(known), SMALLEST), largest)
    if known[0] >= size or size == SMALLEST:
        return size, ()
    return size, (
        f"images differ in size: shorter sides of {known[0]:,} to {known[-1]:,} px; all are made {size} px, smaller "
        "ones are enlarged",
    )


def content_of(images: Images) -> str:
    """What tells what images show from what others do, and by which Pillow they were decoded; of very many a part."""
    step = -(-images.nbytes // HASHED_BYTES) or 1
    digest = hashlib.sha256()
    for first in range(0, len(images), step * HASHED_AT_ONCE):
        digest.update(np.ascontiguousarray(images[first : first + step * HASHED_AT_ONCE : step]).tobytes())
    return f"{digest.hexdigest()[:16]}@{PIL.__version__}"


def _make_split(
    found: Labelled,
    name: str,
    config: DataConfig,
    share: float,
    seed: int,
    images: Images,
    labels: Labels,
    notes: tuple[str, ...] = (),
    contents: str = "",
) -> Split:
    train, val = _stratify(labels, share, seed, name, found.classes)
    notes = notes + name_unscored(labels[val], labels, found.classes)
    flip, why = may_mirror(found.classes, found.named) if config.flip is None else (config.flip, "as the command says")
    parts = part(images, train), labels[train], part(images, val), labels[val]
    notes = found.notes + notes + repetitions(images, labels, found.classes)
    return Split(name, *parts, found.classes, flip, config, len(found.labels), why, notes, contents)


def load_object(
    given: Any,
    config: DataConfig,
    seed: int,
    resolution: int | None,
    channels: int,
    asked: Sequence[str] = (),
) -> Split:
    """A dataset that Python has: a `Split`, a `datasets.Dataset`, (images, labels), or a callable that makes one.

    `InputError` where it is none of these, its images have other channels than the network, or the caller `asked` by
    these options for what is done to images that are decoded, and to these is not.
    """
    if callable(given) and not isinstance(given, Split):
        try:
            given = given()
        except InputError:
            raise
        except Exception as error:
            said = next(iter(str(error).splitlines()), "no reason given")[:160]
            raise InputError(f"dataset: the callable failed ({type(error).__name__}: {said})") from None
    if hasattr(given, "features") and hasattr(given, "select"):
        return _decode_table(given, config, seed, resolution, channels)
    if isinstance(given, tuple) and len(given) == 2:
        asked = [name for name in asked if name != "flip"]
        given = Split.of(*given, validation=config.validation, seed=seed, flip=config.flip)
    if not isinstance(given, Split):
        raise InputError(
            f"dataset: a name, a folder, a Split, a datasets.Dataset, (images, labels) or a callable that makes one of "
            f"these is accepted, not {type(given).__name__}"
        )
    if asked:
        raise InputError(f"{asked[0]}: images of an array are taken as they are; cut, scale or mirror them before")
    if given.channels != channels:
        raise InputError(
            f"dataset {given.name}: images of {given.channels} channels, for networks of as many; the network takes "
            f"{channels} (--fix in_channels={given.channels} where the space has it)"
        )
    return given


def _decode_table(table: Any, config: DataConfig, seed: int, resolution: int | None, channels: int) -> Split:
    found = of_table(table, IN_MEMORY)
    return _decode_split(found, IN_MEMORY, config, seed, resolution, None, LARGEST, channels)


def list_classes(config: DataConfig) -> tuple[tuple[str, ...], int]:
    """The classes of a dataset and how many training images it has, without one being decoded; `InputError` for a class
    of one image."""
    found = _training(config.location, None)
    _check_classes(found.labels, config.dataset, found.classes)
    return found.classes, len(found.labels)


def check_part(config: DataConfig, seed: int) -> None:
    """`InputError` where fewer images are asked for than a split by class needs, before one is decoded."""
    if config.images is not None:
        _part(_training(config.location, None), config.images, seed, config.dataset)


def load_test(
    split: Split, progress: Progress | None = None, say: Callable[[str], object] = lambda note: None
) -> tuple[Images, Labels] | None:
    """The test images of a split's dataset, or those it calls validation; None where neither has labels.

    `say` is told what was left out of them.
    """
    if split.name == "digits":
        return _digits(test=True, size=split.resolution, channels=split.channels)
    found = _testing(split.name, split.classes, progress)
    if found is None:
        return None
    form = Form(split.channels, split.resolution, split.data.data_range)
    made = decode(found.images(np.arange(len(found.labels))), form, split.data.skip_bad, progress)
    for note in _notes(made):
        say(f"test images: {note}")
    return made.images, found.labels[made.rows]


def check_channels(config: DataConfig, channels: int) -> None:
    """`InputError` where a network of so many channels cannot take a dataset's images, before anything is begun.

    Of photos any network of 1 or 3 channels can; so images are looked at where they may be something else.
    """
    name = config.location
    if name == "digits":
        if channels not in (1, 3):
            raise InputError(
                f"dataset digits: grey images, for networks of 1 or 3 channels; the network takes {channels}"
            )
        return
    peeked = _peek(name, channels)
    misfits = [said for record in peeked if (said := misfit(record, channels))]
    if misfits and len(misfits) == len(peeked):
        raise InputError(f"dataset {name}: {misfits[0]}")


def _peek(name: str, channels: int) -> list[Any]:
    """Some images of a dataset."""
    if Path(name).is_dir() and (files := first_images(Path(name), PEEKED)):
        return [File(name, file) for file in files]
    return [] if channels in (1, 3) else first_records(name, PEEKED)


def _notes(made: Decoded) -> tuple[str, ...]:
    """What was left out because it cannot be read, and what else is to be said."""
    if not made.bad:
        return made.notes
    more = f"; and {len(made.bad) - SHOWN} more" if len(made.bad) > SHOWN else ""
    bad = f"{count_of(len(made.bad), 'image')} left out that cannot be read: {'; '.join(made.bad[:SHOWN])}{more}"
    return bad, *made.notes


def _darkness(
    images: Images, advice: str = "--data-range says which value of deeper images is white"
) -> tuple[str, ...]:
    """A word where hardly any of 256 levels are used, as of 12-bit values in 16-bit files, or of masks of 0 and 1."""
    top = int(images[:: max(1, len(images) // LOOKED_AT)].max(initial=0))
    if top >= DARK:
        return ()
    return (f"the images are dark, up to {top} of 255: {advice}",)


@lru_cache(8)
def _digits(test: bool, size: int, channels: int) -> tuple[NDArray[np.uint8], Labels]:
    """scikit-learn's 8×8 digits: the last fifth of each class stands for a test set. Not to be written to."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    parts = [np.split(np.flatnonzero(labels == c), [int(0.8 * np.sum(labels == c))]) for c in range(10)]
    chosen = np.sort(np.concatenate([part[test] for part in parts]))
    images = np.stack([pixels(Image.fromarray(image), size, channels) for image in grey[chosen]])
    images.flags.writeable = False
    labels = labels[chosen]
    labels.flags.writeable = False
    return images, labels


def _no_source(rows: Rows) -> Source:
    raise AssertionError("digits are in no file")


def number_of_training_images(config: DataConfig, there: int) -> int:
    """How many images train of so many that are there, about."""
    return round((1 - config.validation) * min(there, config.images or there))


def _choose_images(found: Labelled, config: DataConfig, seed: int, name: str) -> tuple[Rows, float]:
    """Which images are used, and the share of them that scores."""
    there, wanted = len(found.labels), config.images
    if not config.spare or wanted is None or wanted >= there:
        return _part(found, wanted, seed, name), config.validation
    train = number_of_training_images(config, there)
    score = min(there - train, max(wanted - train, int(SPARE * train)))
    return _part(found, train + score, seed, name), score / (train + score)


def _part(found: Labelled, images: int | None, seed: int, name: str) -> Rows:
    """Which images are used: all, or so many, of every class its share."""
    labels = found.labels
    if images is None or images >= len(labels):
        return np.arange(len(labels))
    classes = len(np.unique(labels))
    if images < 2 * classes:
        raise InputError(f"images: at least {2 * classes}, two of each class of {name}, not {images}")
    _check_classes(labels, name, found.classes)
    return hold_out(labels, len(labels) - images, seed, least=2)[0]


def _stratify(labels: Labels, share: float, seed: int, name: str, classes: Sequence[str]) -> tuple[Rows, Rows]:
    """The rows that train and those that score; `InputError` for a class that is too small for both."""
    _check_classes(labels, name, classes)
    return hold_out(labels, share, seed)


def _check_classes(labels: Labels, name: str, classes: Sequence[str]) -> None:
    """`InputError` for a class of one image."""
    alone = np.flatnonzero(np.bincount(labels, minlength=1) == 1)
    if len(alone):
        named = list_names(alone, classes)
        which = f"the classes {named} have" if len(alone) > 1 else f"the class {named} has"
        raise InputError(f"dataset {name}: {which} one image; at least two of each are accepted")


def _training(name: str, progress: Progress | None) -> Labelled:
    if name == "digits":
        return Labelled(_digits(test=False, size=SMALLEST, channels=1)[1], DIGITS, _no_source)
    folder = _folder(name, progress)
    if folder is None:
        return tabular(name, "train")
    return _label_files(folder, "train", sorted({label for _, label in folder.splits["train"]}))


def _testing(name: str, classes: tuple[str, ...], progress: Progress | None) -> Labelled | None:
    """The split that stands for a test set; None where there is none with labels."""
    folder = _folder(name, progress)
    have = split_names(name) if folder is None else list(folder.splits)
    for kind in ("test", "validation"):
        if kind in have:
            found = tabular(name, kind, classes) if folder is None else _label_files(folder, kind, classes)
            if len(found.labels) and found.labels.min() >= 0:
                return found
    return None


def _folder(name: str, progress: Progress | None) -> ImageFolder | None:
    """The images of a local folder of class folders; None for all else, which `datasets` reads."""
    root = Path(name)
    if not root.is_dir() or any(next(root.glob(pattern), None) for pattern in ("*.parquet", "data/*.parquet")):
        return None
    try:
        listed = None if progress is None else lambda number: progress("listing files", number, 0)
        return image_folder(root, listed)
    except InputError:
        if any(next(root.glob(pattern), None) for pattern in ("metadata.*", "*/metadata.*")):
            return None  # from which `datasets` takes labels
        raise


def _label_files(folder: ImageFolder, kind: str, classes: Sequence[str]) -> Labelled:
    files, index = folder.splits[kind], {text(label): number for number, label in enumerate(classes)}
    labels = np.array([index[text(label)] for _, label in files], np.int64)
    words = "training" if kind == "train" else kind
    source = partial(_files, folder.root, [path for path, _ in files], f"{folder.root}: {words}")
    notes = folder.notes + purposes({kind: len(files) for kind, files in folder.splits.items()})
    return Labelled(labels, tuple(map(text, classes)), source, notes=notes)


def text(name: str) -> str:
    """A folder's name as text that can be written anywhere; bytes that are no UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _files(root: Path, paths: list[str], place: str, rows: Rows) -> Source:
    """Some of the files of a folder; one that has changed gives another fingerprint."""
    chosen = [paths[row] for row in rows]
    digest = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape"))
    contents = hashlib.sha256()
    for path in chosen:
        try:
            status = (root / path).stat()
        except OSError as error:
            raise InputError(f"dataset {root / path}: cannot be read ({error.strerror})") from None
        file = f"\0{path}\0{status.st_size}".encode("utf-8", "surrogateescape")
        contents.update(file)
        digest.update(file + f"\0{status.st_mtime_ns}".encode())

    def records() -> Iterator[File]:
        return (File(str(root), path) for path in chosen)

    return Source(place, len(chosen), digest.hexdigest(), records, contents.hexdigest()[:16])
