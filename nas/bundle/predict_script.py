"""`predict.py` of a trained export: names the classes of image files with onnxruntime, numpy and pillow alone."""

from __future__ import annotations

import textwrap

from nas.bundle.card import PREDICTION, TrainingRecord, preparation
from nas.bundle.function_source import sort_imports, standalone
from nas.data.decoding import pixels, square
from nas.data.image_folder import SKIPPED
from nas.data.pictures import picture, read_file
from searchspace.arch import Arch

# What prepares an image for training, and how it is called on the file at `path`.
PARTS = (picture, pixels, square, read_file)
READ = "pixels(picture(read_file(path), CHANNELS), SIZE, CHANNELS, DATA_RANGE)"

SCRIPT = '''\
"""The classes of image files: python predict.py photo.jpg folder …

Needs {needs}, and the files beside it.
{preparation}
"""

from __future__ import annotations

{imports}

SIZE, CHANNELS, DATA_RANGE = {size}, {channels}, {data_range}
MEAN = np.float32({mean}).reshape(1, -1, 1, 1)
STD = np.float32({std}).reshape(1, -1, 1, 1)
HERE = Path(__file__).resolve().parent
SKIPPED = {{{skipped}}}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("images", nargs="+", metavar="IMAGE", type=Path, help="image files, and folders of them")
    options.add_argument("--top", type=int, default=1, metavar="K", help="name the K most probable classes (1)")
    options.add_argument("--json", action="store_true", help="one JSON object per image")
    options.add_argument(
        "--model", type=Path, default=HERE / "model.onnx", metavar="FILE", help="the network (model.onnx beside this)"
    )
    given = options.parse_args()
    if given.top < 1:
        options.error(f"argument --top: at least 1, not {{given.top}}")
    classes, session = loaded(given.model if given.model.is_file() else HERE / given.model)
    failed = False
    for path in files(given.images):
        try:
            likely = probabilities(session, prepared(path))
        except Exception as error:  # damaged images raise errors of many kinds
            failed = True
            if given.json:
                print(json.dumps({{"file": str(path), "skipped": reason(error)}}), flush=True)
            print(f"{{printable(path)}}: skipped: {{reason(error)}}", file=sys.stderr)
            continue
        best = [(classes[index], float(likely[index])) for index in np.argsort(-likely, kind="stable")[: given.top]]
        print(as_json(path, best) if given.json else as_text(path, best), flush=True)
    return 1 if failed else 0


def loaded(model):
    """The classes in the order of the outputs, and the network."""
    try:
        classes = json.loads((HERE / "classes.json").read_text(encoding="utf-8"))
        return classes, onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    except Exception as error:
        sys.exit(f"{{printable(HERE)}}: classes.json and {{printable(model.name)}} have to be there: {{reason(error)}}")


def files(paths):
    """The paths; in place of a folder the image files in it, at any depth."""
    kinds = Image.registered_extensions().items()
    known = {{suffix for suffix, kind in kinds if kind in FORMATS}} | {{".npy", ".npz"}}
    for path in paths:
        yield from list(inside(path, known, ())) or [path]


def inside(path, known, above):
    """The image files at and below a path, through links too, without what is hidden, which was not trained on either.
    What cannot be read is among them: who reads it says why."""
    try:
        entries = sorted(path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        if path.suffix.lower() in known:
            yield path
        return
    except OSError:
        yield path
        return
    place = path.resolve()
    for entry in entries if place not in above else []:  # not through a link to a folder that it is in
        if not entry.name.startswith(".") and entry.name not in SKIPPED:
            yield from inside(entry, known, (*above, place))


def prepared(path):
    """The file as (1, channels, SIZE, SIZE) numbers for the network."""
    if path.is_dir():
        next(path.iterdir(), None)
        raise ValueError("a folder without image files")
    if path.exists() and not path.is_file():
        raise ValueError("not a file")  # a pipe would be waited for
    array = {read}
    return (array[None].astype(np.float32) - MEAN) / STD


def probabilities(session, images):
    """Softmax of the logits of one image."""
    (logits,) = session.run(None, {{"images": images}})
    likely = np.exp(logits[0] - logits[0].max())
    return likely / likely.sum()


def as_text(path, best):
    return f"{{printable(path)}}: " + ", ".join(f"{{printable(name)}} ({{share:.3f}})" for name, share in best)


def as_json(path, best):
    named = [{{"class": name, "probability": share}} for name, share in best]
    return json.dumps({{"file": str(path), "classes": named}})


def reason(error):
    if isinstance(error, UnidentifiedImageError):
        return "no image of a known kind"
    return printable(getattr(error, "strerror", None) or " ".join(str(error).split())[:200] or type(error).__name__)


def printable(words):
    """Text without what would steer a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(words))


# From here on: how images were prepared in training.


{parts}

if __name__ == "__main__":
    warnings.simplefilter("ignore")  # Pillow's, of what it can read nevertheless
    Image.MAX_IMAGE_PIXELS = None  # picture() has a limit of its own
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # of standard output: a full disk, or a reader that has gone, as in `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"standard output: {{reason(error)}}")
'''
NEEDED = {
    *("import argparse", "import json", "import os", "import sys", "import warnings", "from pathlib import Path"),
    *("import numpy as np", "import onnxruntime", "from PIL import Image", "from PIL import UnidentifiedImageError"),
}


def script(arch: Arch, trained: TrainingRecord) -> str:
    """The file's text; images are prepared by the very functions that prepare them for training."""
    needed, parts = standalone(*PARTS)
    return SCRIPT.format(
        needs=PREDICTION,
        preparation=textwrap.fill(preparation(arch, trained), 118),
        imports=sort_imports({*needed, *NEEDED}),
        size=arch.resolution,
        channels=arch.in_channels,
        data_range=trained.data_range,
        mean=list(trained.mean),
        std=list(trained.std),
        skipped=", ".join(f'"{name}"' for name in sorted(SKIPPED)),
        read=READ,
        parts=parts,
    )
