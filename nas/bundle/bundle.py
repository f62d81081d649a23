"""A network to take home: a folder that needs nothing of this project, tried by a fresh interpreter before it is there.

`nas.export` and `nas.train` write one: `arch.yaml`, `model.py`, `card.md`; where it is trained `weights.safetensors`,
`classes.json`, `confusion.json` and its drawing; where asked `model.onnx`, and with weights `predict.py`, which runs it
on image files, and `model.int8.onnx`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.analysis import confusion
from nas.bundle import card, formats, int8_file, onnx_file, tflite_file
from nas.bundle.card import ModelCard
from nas.bundle.confusion_matrix import matrix
from nas.bundle.int8_file import Calibration, Compared
from nas.bundle.onnx_file import require_onnx as require_onnx
from nas.bundle.predict_script import script
from nas.config import CONFIG, DataConfig
from nas.training import checkpoint
from searchspace.arch import Arch
from searchspace.document import plain, writing
from searchspace.errors import InputError
from searchspace.pytorch.module import build, fold
from searchspace.pytorch.source import source

CARD, WEIGHTS, DRAWING = "card.md", "weights.safetensors", "confusion.svg"
# In the order they are put in place: what has weights is complete.
FILES = (
    *(CARD, "arch.yaml", "model.py", "classes.json", confusion.FILE, DRAWING, int8_file.FLOAT, int8_file.INT8),
    tflite_file.FILE,
    *formats.FILES,
    *("predict.py", WEIGHTS),
)
TFLITE = "tflite"
PART = ".part-"  # begins the name of the folder in which files are made
OPTIONS = {
    **dict.fromkeys((int8_file.FLOAT, "predict.py"), "--onnx"),
    int8_file.INT8: "--int8",
    tflite_file.FILE: f"--format {TFLITE}",
    **{file: f"--format {name}" for name, one in formats.FORMATS.items() for file in one.files},
}
FOLDED = "the deployed network"
TOLERANCE, CONVERTED = {"model.py": 1e-5, FOLDED: 1e-5}, 1e-4
SECONDS = 600

CHECK = """
import json, runpy, statistics, sys, time
sys.modules.update(dict.fromkeys(("nas", "searchspace")))  # an import of either is an error
from pathlib import Path
import torch
from safetensors.torch import load_file
folder, given = Path(sys.argv[1]), load_file(sys.argv[2])
torch.set_num_threads(int(sys.argv[3]))
def taken(prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in given.items() if name.startswith(prefix)}
def apart(logits, expected):
    return float((logits.nan_to_num() - expected.nan_to_num()).abs().max() / expected.nan_to_num().abs().max())
def pace(run):
    run()
    spent, begun = [], time.perf_counter()
    while len(spent) < 3 or (len(spent) < 20 and time.perf_counter() - begun < 1):
        start = time.thread_time()
        run()
        spent.append(1000 * (time.thread_time() - start))
    return statistics.median(spent)
images, weights = given["images"], folder / "weights.safetensors"
model = runpy.run_path(str(folder / "model.py"))["Network"]().eval()
found = {"model.py": 0.0}
for state in ("own", "disturbed"):
    own = state == "own" and weights.exists()
    model.load_state_dict(load_file(weights) if own else taken(state + "/"))
    with torch.no_grad():
        found["model.py"] = max(found["model.py"], apart(model(images), given["logits/" + state]))
if (folder / "model.onnx").exists():
    import onnxruntime
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": images.numpy()})
    found["model.onnx"] = apart(torch.from_numpy(logits), given["logits/own"])
torch.set_num_threads(1)
with torch.inference_mode():
    one, deployed = images[:1].clone(), model.to(memory_format=torch.channels_last)
    paces = {"model.py": pace(lambda: deployed(one))}
for file in ("model.onnx", "model.int8.onnx"):
    if (folder / file).exists():
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        alone = onnxruntime.InferenceSession(folder / file, options, providers=["CPUExecutionProvider"])
        paces[file] = pace(lambda: alone.run(None, {"images": one.numpy()}))
print(json.dumps({"differences": found, "milliseconds": paces}))
"""


class DifferentError(RuntimeError):
    """What was written does not do what the network does."""


@dataclass(frozen=True, slots=True)
class Tried:
    """Of each file that computes: how far its output is from the network's, as a share of the largest number in it,
    and the median milliseconds of one image on one thread of this machine."""

    differences: dict[str, float]
    milliseconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Export:
    """The names of the files, how far the output of each is from the network's, and of int8 what there is to say."""

    files: list[str]
    differences: dict[str, float]
    int8: list[str]


def check_free(out: Path) -> None:
    """`InputError` where writing to a folder would overwrite what no export wrote."""
    if out.exists() and not out.is_dir():
        raise InputError(f"out {out}: a folder is accepted, not a file")
    if (out / CONFIG).exists():
        raise InputError(f"out {out}: is the folder of a search; give another")
    present = [name for name in FILES if (out / name).exists()]
    if present and not _is_bundle(out):
        raise InputError(f"out {out}: has a {present[0]} that no export wrote; give another folder")


def check_new(out: Path) -> None:
    """`InputError` where a folder to export to holds anything but an earlier export, or what is left of one that was
    killed."""
    check_free(out)
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    others = [name for name in names if not name.startswith(PART)]
    if others and not _is_bundle(out):
        raise InputError(f"out {out}: is not empty and no export (it has {others[0]}); give another folder")


def planned_files(
    trained: bool, confused: bool, onnx: bool, int8: bool = False, others: Sequence[str] = ()
) -> set[str]:
    """The names of the files that an export of these parts has."""
    return {
        *(CARD, "arch.yaml", "model.py"),
        *(("classes.json", WEIGHTS) if trained else ()),
        *((confusion.FILE, DRAWING) if confused else ()),
        *((int8_file.FLOAT,) if onnx else ()),
        *(("predict.py",) if onnx and trained else ()),
        *((int8_file.INT8,) if int8 else ()),
        *((tflite_file.FILE,) if TFLITE in others else ()),
        *(file for name in others if name != TFLITE for file in formats.FORMATS[name].files),
    }


def check_replaced(out: Path, planned: Collection[str]) -> None:
    """`InputError` where an earlier export has files that the next one would not write: beside it they would be of
    another network, and without them something is lost."""
    left = [name for name in FILES if name not in planned and (out / name).exists()]
    if left:
        options = list(dict.fromkeys(OPTIONS[name] for name in left if name in OPTIONS))
        again = f"{' '.join(options)} writes such files anew; else " if options else ""
        raise InputError(
            f"out {out}: has {', '.join(left)} of an earlier export, which would be lost; "
            f"{again}give another folder or remove them"
        )


def _is_bundle(folder: Path) -> bool:
    try:
        return (folder / CARD).read_text(encoding="utf-8").startswith(card.MARK)
    except (OSError, UnicodeDecodeError):
        return False


def data_of(folder: Path) -> DataConfig | None:
    """The images that an exported network was searched or trained on, where its card or its weights say so; where they
    are may be said of another machine (see `card.elsewhere`)."""
    if not _is_bundle(folder):
        return None
    named = card.images_of((folder / CARD).read_text(encoding="utf-8"))
    if named is None and "dataset" in (known := read_record(folder)):
        with suppress(TypeError, ValueError):
            named = DataConfig(known["dataset"])
    return named


def read_record(folder: Path) -> dict[str, Any]:
    """What a folder's weights say of their training, without a look at these; nothing where there is no such record."""
    with suppress(InputError, KeyError, OSError, TypeError, ValueError, RecursionError):
        return dict(json.loads(checkpoint.notes(folder / WEIGHTS)["trained"]))
    return {}


def write(
    out: Path,
    facts: ModelCard,
    weights: dict[str, Tensor] | None = None,
    onnx: bool = False,
    calibration: Calibration | None = None,
    others: Sequence[str] = (),
) -> Export:
    """Write the folder, once a fresh interpreter has computed the same with its files; else `DifferentError`.

    Without weights they start fresh, from the network's digest. With images to calibrate on and ONNX, it is there in
    int8 too; `others` are further `formats`, and `tflite` with images. Raises as `writing` where nothing can be
    written.
    """
    if onnx:
        require_onnx(TFLITE in others)
    converted = [name for name in others if name != TFLITE]
    formats.require(converted)
    check_free(out)
    model = _network(facts, weights)
    with writing(f"out {out}"):
        out.mkdir(parents=True, exist_ok=True)
        for left in out.glob(f"{PART}*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=PART, dir=out) as name:
            part, scratch = Path(name) / "new", Path(name) / "check.safetensors"
            part.mkdir()
            _fill(part, facts, model, weights, onnx)
            int8 = _int8(part, facts, calibration) if calibration else None
            micro = _tflite(part, facts, calibration) if calibration and TFLITE in others else None
            found = try_files(part, model, noise(facts.arch), scratch)
            found.differences.update(_in_formats(part, converted, model, noise(facts.arch)))
            more = {"INT8": int8_file.section(int8, found.milliseconds)} if int8 else {}
            more |= {"Microcontroller": tuple(tflite_file.sentences(micro))} if micro else {}
            more |= {"Other formats": formats.describe(converted)} if converted else {}
            (part / CARD).write_text(card.text(facts.portable(), onnx, found.milliseconds, more), encoding="utf-8")
            files = [file for file in FILES if (part / file).exists()]
            for file in FILES:
                if file in files:
                    (part / file).replace(out / file)
                else:
                    (out / file).unlink(missing_ok=True)
    said = int8_file.sentences(int8, found.milliseconds) if int8 else []
    return Export(files, found.differences, said + (tflite_file.sentences(micro) if micro else []))


def _network(facts: ModelCard, weights: dict[str, Tensor] | None) -> nn.Module:
    """The network, fresh from its digest or with weights; `InputError` where those are not of it."""
    torch.manual_seed(int(facts.arch.digest, 16) % 2**63)
    model = build(facts.arch, deployed=True)
    if weights is not None:
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{facts.title}: {' '.join(str(error).split())[:160]}") from None
        broken = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
        if broken:
            raise InputError(f"{facts.title}: the weights {broken[0]} hold numbers that are not finite")
    if facts.trained is not None:
        facts.trained.check(facts.arch, facts.title)
    return model.eval()


@torch.no_grad()
def deployed_weights(model: nn.Module, arch: Arch) -> dict[str, Tensor]:
    """The weights of a trained network as it is deployed; `DifferentError` where its branches, folded into single
    convolutions, compute something else."""
    trained = deepcopy(model).cpu().eval()
    folded = fold(trained)
    weights = folded.state_dict()
    if weights.keys() != trained.state_dict().keys():
        wanted, given = (network(noise(arch)) for network in (trained, folded))
        check_difference(FOLDED, float((given - wanted).abs().max() / wanted.abs().max()))
    return weights


def _fill(part: Path, facts: ModelCard, model: nn.Module, weights: dict[str, Tensor] | None, onnx: bool) -> None:
    facts.arch.save(part / "arch.yaml", card.one_line(facts.title))
    (part / "model.py").write_text(source(facts.arch), encoding="utf-8")
    if onnx:
        onnx_file.write(part / "model.onnx", model, noise(facts.arch), facts.arch.head.output)
    if weights is not None and facts.trained is not None:
        notes = {"format": "pt", "trained": json.dumps(plain(facts.trained))}
        checkpoint.write(part / WEIGHTS, weights, notes)
        if onnx:
            (part / "predict.py").write_text(script(facts.arch, facts.trained), encoding="utf-8")
        (part / "classes.json").write_text(json.dumps(facts.trained.classes, indent=0) + "\n", encoding="utf-8")
    if facts.confusion is not None:
        (part / confusion.FILE).write_text(confusion.text(facts.confusion), encoding="utf-8")
        (part / DRAWING).write_text(matrix(facts.confusion, standalone=True), encoding="utf-8")


def _in_formats(part: Path, names: Sequence[str], model: nn.Module, images: Tensor) -> dict[str, float]:
    """Write the network in further formats; how far each file's output is from the network's."""
    found = {}
    for name in names:
        file = formats.FORMATS[name].files[0]
        try:
            found[file] = check_difference(file, formats.write(part, name, model, images))
        except RuntimeError as error:
            raise DifferentError(str(error)) from None
    return found


def _int8(part: Path, facts: ModelCard, calibration: Calibration) -> Compared:
    assert facts.trained is not None, "only trained weights are quantised"
    int8_file.write(part, facts.trained, calibration)
    return int8_file.compare(part, facts.trained, calibration)


def _tflite(part: Path, facts: ModelCard, calibration: Calibration) -> tflite_file.Written:
    """The int8 file for microcontrollers, tried on some training images; `DifferentError` where it cannot be run."""
    assert facts.trained is not None, "only trained weights are quantised"
    try:
        return tflite_file.write(part, next(int8_file.batches(calibration.images, facts.trained)))
    except RuntimeError as error:
        raise DifferentError(str(error)) from None


def noise(arch: Arch) -> Tensor:
    """Random images, a faint and a strong one: an activation that saturates does so for the second."""
    side = arch.resolution
    images = torch.randn(2, arch.in_channels, side, side, generator=torch.Generator().manual_seed(0))
    return images * torch.tensor([1.0, 30.0]).reshape(2, 1, 1, 1)


def try_files(folder: Path, model: nn.Module, images: Tensor, scratch: Path) -> Tried:
    """What a folder's files compute of some images, in an interpreter that cannot import this project.

    `model.py` is also compared with disturbed weights: fresh ones leave much of a network without effect.
    """
    given = {"images": images}
    for state, network in (("own", model), ("disturbed", disturb(model))):
        with torch.no_grad():
            given[f"logits/{state}"] = network(images)
        given |= {f"{state}/{name}": tensor for name, tensor in network.state_dict().items()}
    checkpoint.write(scratch, given)
    command = [sys.executable, "-I", "-c", CHECK, str(folder), str(scratch), str(torch.get_num_threads())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise DifferentError(f"a fresh interpreter took more than {SECONDS} s") from None
    if done.returncode != 0:
        raise DifferentError(f"a fresh interpreter cannot run it: {last_line(done.stderr)}")
    found = Tried(**json.loads(done.stdout.splitlines()[-1]))
    for name, difference in found.differences.items():
        check_difference(name, difference)
    return found


def check_difference(name: str, difference: float) -> float:
    """The difference; `DifferentError` where a file's is too large."""
    if not difference <= TOLERANCE.get(name, CONVERTED):
        raise DifferentError(f"{name} is not the network: its output is off by {difference:.2g} of the largest")
    return difference


def last_line(said: str) -> str:
    return next(iter(reversed(said.strip().splitlines())), "it was killed")[:200]


@torch.no_grad()
def disturb(model: nn.Module) -> nn.Module:
    """A copy in which every norm, bias and scale has an effect."""
    copy = deepcopy(model)
    random = torch.Generator().manual_seed(1)
    for tensor in (*copy.parameters(), *copy.buffers()):
        if tensor.is_floating_point() and tensor.ndim not in (2, 4):
            tensor.copy_(torch.rand(tensor.shape, generator=random) + 0.5)
    return copy
