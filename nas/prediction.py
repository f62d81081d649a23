"""`predict.py` of a trained export: names the classes of image files with onnxruntime, numpy and pillow alone."""

from __future__ import annotations

import inspect

from nas.card import Trained
from nas.decoding import pixels
from searchspace.arch import Arch

SCRIPT = '''\
"""python predict.py IMAGE …: the class of every image file and its probability.

Needs onnxruntime, numpy and pillow. Images are prepared as in training: transparency on white, the shorter side resized
to {size} pixels, the centre cropped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

SIZE = {size}
MEAN = np.float32({mean}).reshape(1, 3, 1, 1)
STD = np.float32({std}).reshape(1, 3, 1, 1)
HERE = Path(__file__).resolve().parent


{pixels}

def prepared(path):
    """The file as (1, 3, SIZE, SIZE) numbers for the network."""
    return (pixels(Image.open(path), SIZE)[None].astype(np.float32) - MEAN) / STD


def main(paths):
    if not paths:
        sys.exit("python predict.py IMAGE …")
    classes = json.loads((HERE / "classes.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(HERE / "model.onnx", providers=["CPUExecutionProvider"])
    for path in paths:
        try:
            images = prepared(path)
        except (OSError, ValueError) as error:
            sys.exit(f"{{path}}: not an image that can be read ({{error}})")
        (logits,) = session.run(None, {{"images": images}})
        likely = np.exp(logits[0] - logits[0].max())
        best = int(likely.argmax())
        print(f"{{path}}: {{classes[best]}} ({{likely[best] / likely.sum():.3f}})")


if __name__ == "__main__":
    main(sys.argv[1:])
'''


def script(arch: Arch, trained: Trained) -> str:
    """The file's text; images are prepared by the very function that prepares them for training."""
    mean, std = (", ".join(repr(number) for number in numbers) for numbers in (trained.mean, trained.std))
    return SCRIPT.format(size=arch.resolution, mean=f"[{mean}]", std=f"[{std}]", pixels=inspect.getsource(pixels))
