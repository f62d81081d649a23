"""`card.md`: what a network is, what it costs, how it scored and on what, how to load it and how to get it again."""

from __future__ import annotations

import json
import platform
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import numpy
import torch

from nas.analysis import confusion
from nas.analysis.confusion import Confusion
from nas.config import DataConfig
from nas.latency.timing import device_name
from nas.metric import DEFAULT_METRIC, Metric
from searchspace.arch import Arch
from searchspace.budget import NAMES
from searchspace.costs.network_cost import cost
from searchspace.document import parse, plain, value
from searchspace.errors import InputError
from searchspace.pytorch.source import outputs

MARK = "<!-- written by nas.export or nas.train, which may write it again -->"
IMAGES = "<!-- images: "
FEW = 20
ANOTHER_MACHINES = "…/"  # what stands for the folders above one outside the working directory
PREDICTION = "onnxruntime, numpy and pillow"


@value
class TrainingRecord:
    """What made a network's weights and how they scored; it travels inside `weights.safetensors`.

    `mean` and `std` of a channel, in 0…255, are what images are normalised with. `accuracy` is of the `images` held out
    of the training images, `test_accuracy` of the dataset's own test images, None where it has none. `recipe` is what
    the training was told, "" in weights of earlier versions, and `data_range` which value is white in deep images.
    `score` and `test_score` are of the `metric` that a search scored by, where that is another.
    `test_notes` say what is to be known of the test images: those left out, and those that were trained on.
    `fingerprint` tells the images from others (see `config.same_images`); "" in weights of earlier versions.
    """

    dataset: str
    seed: int
    epochs: int
    accuracy: float
    images: int
    test_accuracy: float | None
    test_images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    command: str = ""
    recipe: str = ""
    data_range: float | None = None
    metric: str = str(DEFAULT_METRIC)
    score: float | None = None
    test_score: float | None = None
    test_notes: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def scores(self) -> list[tuple[str, Metric, float, int]]:
        """What was measured: on which images, what, how much of it, and on how many."""
        other = Metric.of(self.metric)
        found = [
            ("validation", DEFAULT_METRIC, self.accuracy, self.images),
            ("validation", other, self.score, self.images),
            ("test", DEFAULT_METRIC, self.test_accuracy, self.test_images),
            ("test", other, self.test_score, self.test_images),
        ]
        return [(name, metric, score, images) for name, metric, score, images in found if score is not None]

    def check(self, arch: Arch, title: str) -> None:
        """`InputError` where this is not said of such a network."""
        if (classes := len(self.classes)) != arch.num_classes:
            raise InputError(f"{title}: names {classes} classes, the network has {arch.num_classes}")
        if not len(self.mean) == len(self.std) == arch.in_channels:
            raise InputError(f"{title}: mean and std are not of the network's {arch.in_channels} channels")
        if min(self.std) <= 0:
            raise InputError(f"{title}: std is above 0, not {min(self.std):g}")
        for accuracy, images in ((self.accuracy, self.images), (self.test_accuracy, self.test_images)):
            if accuracy is not None and not (0 <= accuracy <= 1 and images >= 1):
                raise InputError(f"{title}: an accuracy of {accuracy:g} on {images} images is none")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a card says. `arch` is the network in the folder, `deployed` the one that the budget concerns, None where
    nothing says which that is, `data` the images that it was searched or trained on.

    `scored` and `timed` are what a search found of it, its accuracy and its latency.
    """

    title: str
    arch: Arch
    deployed: Arch | None
    budget: str = ""
    scored: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()
    trained: TrainingRecord | None = None
    commands: tuple[str, ...] = ()
    confusion: Confusion | None = None
    data: DataConfig | None = None

    def portable(self) -> ModelCard:
        """The same, to take away: folders of this machine by their last name alone."""
        trained, commands = self.trained, tuple(map(portable, self.commands))
        if trained is not None:
            trained = replace(trained, dataset=elsewhere(trained.dataset), command=portable(trained.command))
        data = self.data and replace(self.data, dataset=elsewhere(self.data.dataset), base="")
        return replace(self, trained=trained, commands=commands, data=data)


def portable(command: str) -> str:
    """A command without places of this machine: what is below the working directory from there, others as `…/name`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    return " ".join(map(_quote, map(elsewhere, words)))


def _quote(word: str) -> str:
    """A word as a shell takes it; `…` alone needs no quotes."""
    rest = word.replace("…", "")
    return word if rest == shlex.quote(rest) else shlex.quote(word)


def elsewhere(word: str) -> str:
    """A path, alone or as an option's value, without what is of this machine."""
    option, given, path = word.partition("=") if word.startswith("-") else ("", "", word)
    if not path.startswith(("/", "~")):
        return word
    here, place = Path.cwd(), Path(path)
    shown = str(place.relative_to(here)) if here in place.parents else f"{ANOTHER_MACHINES}{place.name}"
    return f"{option}{given}{shown}"


def is_found(data: DataConfig) -> bool:
    """Whether images may be here: their place is not said of another machine."""
    return not data.dataset.startswith(ANOTHER_MACHINES)


def text(
    facts: ModelCard,
    onnx: bool,
    milliseconds: Mapping[str, float] = MappingProxyType({}),
    more: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> str:
    """The card, in Markdown; `milliseconds` of an image are by file, `more` has sections by their titles, of files that
    not every export has. What people or files named is escaped."""
    trained = facts.trained
    sections = [
        MARK if facts.data is None else f"{MARK}\n{images_line(facts.data)}",
        f"# {escape(facts.title)}",
        f"A convolutional network: images {facts.arch.in_channels}×{facts.arch.resolution}×{facts.arch.resolution} in, "
        f"{outputs(facts.arch)} out. `model.py` is plain PyTorch and imports nothing else; `arch.yaml` is the same "
        "network for `searchspace.Arch.load`." + (" `model.onnx` takes any number of images." if onnx else ""),
        *(("## Classes", classes(trained)) if trained else ()),
        "## Scores",
        *(facts.scored + (scores(trained) if trained else ())),
        "" if trained else "The weights are not trained: `model.py` starts them fresh.",
        *(by_class(facts.confusion) if facts.confusion else ()),
        "## Cost",
        costs(facts),
        *(("## Latency", *latency(facts, milliseconds)) if facts.timed or milliseconds else ()),
        *(line for title, lines in more.items() for line in (f"## {title}", *lines)),
        "## Use",
        *use(facts, onnx),
        "## Repeat",
        "\n".join(f"    {one_line(command)}" for command in facts.commands) or "    (not known)",
        "`…/` stands for a folder on the machine that ran it."
        if any("…/" in command for command in facts.commands)
        else "",
        "## Versions",
        versions(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def classes(trained: TrainingRecord) -> str:
    """The first classes in the order of the outputs, and where all of them are."""
    number = len(trained.classes)
    shown = ", ".join(map(escape, trained.classes[:FEW]))
    more = f", … and {number - FEW:,} more" if number > FEW else ""
    return f"{number:,}, in the order of the outputs, which is that of `classes.json`: {shown}{more}."


def latency(facts: ModelCard, milliseconds: Mapping[str, float]) -> tuple[str, ...]:
    """What one image takes: the files here, and the network on the search's device."""
    if not milliseconds:
        return facts.timed
    measured = ", ".join(f"`{file}` {ms:.3g} ms" for file, ms in milliseconds.items())
    return (
        f"One image on one thread of {escape(device_name('cpu'))}, when this folder was written: {measured} "
        "(the median of up to 20 runs, by the thread's own clock).",
        *facts.timed,
    )


def use(facts: ModelCard, onnx: bool) -> tuple[str, ...]:
    """What to do with the folder, the shortest way first."""
    trained, needs = facts.trained, "torch" if facts.trained is None else "torch and safetensors"
    return (
        f"Of image files: `python predict.py IMAGE …` (`--help` says more; it needs {PREDICTION})."
        if onnx and trained
        else "",
        preparation(facts.arch, trained) if trained else "",
        "With onnxruntime, in this folder:\n\n" + serving(facts) if onnx else "",
        f"With {needs}, in this folder:\n\n" + loading(facts),
        "" if trained else "To train it: `python -m nas.train FOLDER --dataset PATH`, where FOLDER is this folder.",
        "For phones, `torch.export.export(model, (images,))` gives what ExecuTorch and LiteRT convert.",
    )


def preparation(arch: Arch, trained: TrainingRecord) -> str:
    """How an image becomes what the network takes, in words."""
    size, colours = arch.resolution, {1: "grey", 3: "RGB"}.get(arch.in_channels, f"{arch.in_channels} channels")
    mean, std = (", ".join(f"{number:.4g}" for number in numbers) for numbers in (trained.mean, trained.std))
    white = "" if trained.data_range is None else f" (of more than 8 bits: up to {trained.data_range:g})"
    return (
        f"Images are prepared as in training: upright as EXIF says, transparency on white, {colours}, numbers from 0 "
        f"to 255{white}, the shorter side resized to {size} pixels (bilinear), the centre cropped to {size}×{size}, "
        f"channels first; then every channel has its mean ({mean}) subtracted and is divided by its standard deviation "
        f"({std})."
    )


def images_line(data: DataConfig) -> str:
    """A comment that names the images, for `nas.train` of the folder."""
    said = json.dumps(plain(data, (DataConfig,))).replace(">", "\\u003e")  # which could end the comment
    return f"{IMAGES}{said} -->"


def images_of(text: str) -> DataConfig | None:
    """The images that a card's comment names; None of a card without one."""
    for line in text.splitlines():
        if line.startswith(IMAGES) and line.endswith(" -->"):
            try:
                return parse(DataConfig, json.loads(line.removeprefix(IMAGES).removesuffix(" -->")))
            except (ValueError, RecursionError):
                return None
    return None


def costs(facts: ModelCard) -> str:
    """A table with a column for the deployment network, where it is known, and one for the network in the folder, where
    it is another."""
    columns = {} if facts.deployed is None else {"deployment network": facts.deployed}
    if facts.arch != facts.deployed:
        columns["this network"] = facts.arch
    spent = [cost(arch) for arch in columns.values()]
    rows = [["", *columns], ["---", *("---:" for _ in columns)]]
    rows += [["input", *(f"{a.in_channels}×{a.resolution}×{a.resolution}" for a in columns.values())]]
    rows += [["output", *(outputs(a) for a in columns.values())]]
    rows += [["total stride", *(f"{a.total_stride}" for a in columns.values())]]
    rows += [
        [name, *(f"{getattr(c, currency):,}" for c in spent)]
        for currency, name in NAMES.items()
        if getattr(spent[0], currency) is not None
    ]
    rows += [[name, *(f"{c.of(name):,.6g}" for c in spent)] for name, _ in spent[0].own]
    rows += [["digest", *(a.digest for a in columns.values())]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    budget = f"The budget is {escape(facts.budget)}, for the deployment network. " if facts.budget else ""
    return (
        f"{budget}One FLOP is one multiply-add of a convolution or linear layer, without bias. Activations are the "
        "numbers that these layers put out; B are the bytes of float32 maps alive at one time for one image, without "
        "weights; BFlash those of weights and biases. In int8 these are TensorFlow Lite Micro's arena and the "
        f"TensorFlow Lite file.\n\n{table}"
    )


def scores(trained: TrainingRecord) -> tuple[str, ...]:
    """Accuracies with their split, number of images and 90 % interval."""
    low, high = DEFAULT_METRIC.scores_within(trained.accuracy, trained.images) or (0.0, 1.0)
    epochs = f"{trained.epochs} epoch{'s' * (trained.epochs != 1)}"
    recipe = f" Recipe: {escape(trained.recipe)}." if trained.recipe else ""
    lines = [
        f"Trained for {epochs} on {escape(trained.dataset)}, seed {trained.seed}.{recipe}",
        f"Validation accuracy {trained.accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval) on {trained.images:,} "
        "images held out of the training images, by class and seed.",
    ]
    lines += other_scores(trained, "validation")
    if trained.test_accuracy is None:
        return (*lines, "It was not tested: the dataset has no test images with labels.")
    low, high = DEFAULT_METRIC.scores_within(trained.test_accuracy, trained.test_images) or (0.0, 1.0)
    test = f"Test accuracy {trained.test_accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval)"
    lines.append(
        f"{test} on the dataset's {trained.test_images:,} test images, on which it was tested once, at the end."
    )
    return (*lines, *other_scores(trained, "test"), *(f"{escape(note)}." for note in trained.test_notes))


def other_scores(trained: TrainingRecord, images: str) -> list[str]:
    """What else was measured of the images that a sentence before was about."""
    found = [one for one in trained.scores if one[0] == images and one[1] != DEFAULT_METRIC]
    return [f"Of the same {images} images, {metric.words}: {score:.4f}." for _, metric, score, _ in found]


def by_class(found: Confusion) -> tuple[str, ...]:
    """How each class does: in words, drawn, and as a table with 90 % intervals."""
    rows = confusion.rows(found)
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 2), "---"]]
    lines += [[escape(cell) for cell in cells.values()] for cells in rows]
    return (
        f"## By class, on {found.of} images",
        escape(" ".join(filter(None, [confusion.compare_with_chance(found), *confusion.sentences(found)]))),
        "![confusion matrix](confusion.svg)",
        confusion.meaning(found),
        "\n".join(f"| {' | '.join(line)} |" for line in lines),
    )


def loading(facts: ModelCard) -> str:
    """Python that loads the network and runs it, in the folder."""
    if facts.trained is None:
        lines = ["import torch", "", "from model import Network", "", "model = Network().eval()"]
        lines += [f"images = torch.zeros({_shape(facts.arch)})", f"{facts.arch.head.output} = model(images)"]
        lines += [f"print({facts.arch.head.output}.shape)"]
    else:
        lines = ["import json", "", "import torch", "from safetensors.torch import load_file", ""]
        lines += ["from model import Network", "", "model = Network().eval()"]
        lines += ['model.load_state_dict(load_file("weights.safetensors"))', *_preprocessing(facts.trained)]
        lines += [f"images = torch.zeros({_shape(facts.arch)})  # yours, prepared as above"]
        lines += ["logits = model((images - mean) / std)"]
        lines += ['print(json.load(open("classes.json"))[logits[0].argmax()])']
    return "```python\n" + "\n".join(lines) + "\n```"


def _preprocessing(trained: TrainingRecord, library: str = "torch.tensor") -> list[str]:
    shape = f".reshape(1, {len(trained.mean)}, 1, 1)"
    return [f"{name} = {library}({[round(x, 3) for x in given]}){shape}" for name, given in _statistics(trained)]


def _statistics(trained: TrainingRecord) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return ("mean", trained.mean), ("std", trained.std)


def serving(facts: ModelCard) -> str:
    """Python that runs `model.onnx` in the folder, without torch."""
    output = facts.arch.head.output
    lines = ["import numpy as np", "import onnxruntime", ""]
    lines += ['session = onnxruntime.InferenceSession("model.onnx")']
    lines += [f"images = np.zeros(({_shape(facts.arch)}), np.float32)"]
    if facts.trained is not None:
        lines += _preprocessing(facts.trained, "np.float32")
        lines += ["images = (images - mean) / std"]
    lines += [f'({output},) = session.run(None, {{"images": images}})']
    lines += ["print(logits.argmax(1))" if output == "logits" else f"print({output}.shape)"]
    return "```python\n" + "\n".join(lines) + "\n```"


def _shape(arch: Arch) -> str:
    return f"1, {arch.in_channels}, {arch.resolution}, {arch.resolution}"


def versions() -> str:
    try:
        own = metadata.version("cnn-budget-search")
    except metadata.PackageNotFoundError:
        own = "of a checkout"
    return (
        f"cnn-budget-search {own}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {numpy.__version__}, {platform.machine()}."
    )


def escape(words: str) -> str:
    """Text as Markdown shows it literally, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", one_line(words))


def one_line(words: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())
