"""`card.md`: what a network is, what it costs, how it scored and on what, how to load it and how to get it again."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import dataclass
from importlib import metadata

import numpy
import torch

from nas.config import DataConfig
from nas.results import interval
from searchspace.arch import Arch
from searchspace.budget import NAMES
from searchspace.costs import cost
from searchspace.document import parse, plain, value

MARK = "<!-- written by nas.export or nas.train, which may write it again -->"
IMAGES = "<!-- images: "


@value
class Trained:
    """What made a network's weights and how they scored; it travels inside `weights.safetensors`.

    `mean` and `std` of a channel, in 0…255, are what images are normalised with. `accuracy` is of the `images` held out
    of the training images, `test_accuracy` of the dataset's own test images, None where it has none. `recipe` is what
    the training was told, "" in weights of earlier versions.
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


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card says. `arch` is the network in the folder, `deployed` the one that the budget concerns, `data` the
    images that it was searched or trained on."""

    title: str
    arch: Arch
    deployed: Arch
    budget: str = ""
    scored: tuple[str, ...] = ()
    trained: Trained | None = None
    commands: tuple[str, ...] = ()
    data: DataConfig | None = None


def text(facts: Facts, onnx: bool) -> str:
    """The card, in Markdown. What people or files named is escaped."""
    sections = [
        MARK if facts.data is None else f"{MARK}\n{images_line(facts.data)}",
        f"# {escaped(facts.title)}",
        "A convolutional network. `model.py` is plain PyTorch and imports nothing else; `arch.yaml` is the same "
        "network for `searchspace.Arch.load`." + (" `model.onnx` takes any number of images." if onnx else ""),
        "## Cost",
        costs(facts),
        "## Accuracy",
        *(facts.scored + (scores(facts.trained) if facts.trained else ())),
        "" if facts.trained else "The weights are not trained: `model.py` starts them fresh.",
        "## Load",
        "In this folder:" if facts.trained is None else "In this folder, with torch and safetensors installed:",
        loading(facts),
        "With onnxruntime:\n\n" + serving(facts) if onnx else "",
        "On image files, with onnxruntime, numpy and pillow: `python predict.py IMAGE …`"
        if onnx and facts.trained
        else "",
        "## Repeat",
        "\n".join(f"    {one_line(command)}" for command in facts.commands) or "    (not known)",
        "## Versions",
        versions(),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


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


def costs(facts: Facts) -> str:
    """A table with a column for the deployment network and, where it is another, one for the network in the folder."""
    columns = {"deployment network": facts.deployed}
    if facts.arch != facts.deployed:
        columns["this network"] = facts.arch
    spent = [cost(arch) for arch in columns.values()]
    rows = [["", *columns], ["---", *("---:" for _ in columns)]]
    rows += [["input", *(f"{a.in_channels}×{a.resolution}×{a.resolution}" for a in columns.values())]]
    rows += [["classes", *(f"{a.num_classes}" for a in columns.values())]]
    rows += [["total stride", *(f"{a.total_stride}" for a in columns.values())]]
    rows += [
        [name, *(f"{getattr(c, currency):,}" for c in spent)]
        for currency, name in NAMES.items()
        if getattr(spent[0], currency) is not None
    ]
    rows += [["digest", *(a.digest for a in columns.values())]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    budget = f"The budget is {escaped(facts.budget)}, for the deployment network. " if facts.budget else ""
    return (
        f"{budget}One FLOP is one multiply-add of a convolution or linear layer, without bias. Activations are the "
        "numbers that these layers put out; B are the bytes of float32 maps alive at one time for one image, without "
        f"weights.\n\n{table}"
    )


def scores(trained: Trained) -> tuple[str, ...]:
    """Accuracies with their split, number of images and 90 % interval."""
    low, high = interval(trained.accuracy, trained.images)
    epochs = f"{trained.epochs} epoch{'s' * (trained.epochs != 1)}"
    recipe = f" Recipe: {escaped(trained.recipe)}." if trained.recipe else ""
    lines = [
        f"Trained for {epochs} on {escaped(trained.dataset)}, seed {trained.seed}.{recipe}",
        f"Validation accuracy {trained.accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval) on {trained.images:,} "
        "images held out of the training images, by class and seed.",
    ]
    if trained.test_accuracy is None:
        return (*lines, "It was not tested: the dataset has no test images with labels that can be read.")
    low, high = interval(trained.test_accuracy, trained.test_images)
    test = f"Test accuracy {trained.test_accuracy:.4f} [{low:.4f}, {high:.4f}] (90 % interval)"
    return (*lines, f"{test} on the dataset's {trained.test_images:,} test images, which were read once, at the end.")


def loading(facts: Facts) -> str:
    """Python that loads the network and runs it, in the folder."""
    if facts.trained is None:
        lines = ["import torch", "", "from model import Network", "", "model = Network().eval()"]
        lines += [f"logits = model(torch.zeros({_shape(facts.arch)}))", "print(logits.shape)"]
    else:
        lines = ["import json", "", "import torch", "from safetensors.torch import load_file", ""]
        lines += ["from model import Network", "", "model = Network().eval()"]
        lines += ['model.load_state_dict(load_file("weights.safetensors"))', *_preprocessing(facts.trained)]
        lines += [f"images = torch.zeros({_shape(facts.arch)})  # yours: RGB from 0 to 255, square"]
        lines += ["logits = model((images - mean) / std)"]
        lines += ['print(json.load(open("classes.json"))[logits[0].argmax()])']
    return "```python\n" + "\n".join(lines) + "\n```"


def _preprocessing(trained: Trained, library: str = "torch.tensor") -> list[str]:
    shape = f".reshape(1, {len(trained.mean)}, 1, 1)"
    return [f"{name} = {library}({[round(x, 3) for x in given]}){shape}" for name, given in _statistics(trained)]


def _statistics(trained: Trained) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return ("mean", trained.mean), ("std", trained.std)


def serving(facts: Facts) -> str:
    """Python that runs `model.onnx` in the folder, without torch."""
    lines = ["import numpy as np", "import onnxruntime", ""]
    lines += ['session = onnxruntime.InferenceSession("model.onnx")']
    lines += [f"images = np.zeros(({_shape(facts.arch)}), np.float32)"]
    if facts.trained is not None:
        lines += _preprocessing(facts.trained, "np.float32")
        lines += ["images = (images - mean) / std"]
    lines += ['(logits,) = session.run(None, {"images": images})', "print(logits.argmax(1))"]
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


def escaped(words: str) -> str:
    """Text as Markdown shows it literally, in one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|!&~])", r"\\\1", one_line(words))


def one_line(words: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in words).split())
