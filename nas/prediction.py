"""`predict.py` of a trained export: names the classes of image files with onnxruntime, numpy and pillow alone."""

from __future__ import annotations

from nas.card import Trained
from searchspace.arch import Arch

SCRIPT = '''\
"""python predict.py IMAGE …: the class of every image file and its probability.

Needs onnxruntime, numpy and pillow. Images are prepared as in training: transparency on white, the shorter side resized
to {size} pixels, the centre cropped.
"""

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


def prepared(path):
    """The file as (1, 3, SIZE, SIZE) numbers for the network."""
    picture = Image.open(path)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    if picture.mode.startswith(("I", "F")):  # 16 and 32 bits a pixel
        deep = np.asarray(picture, np.float64)
        top = 65535.0 if deep.max(initial=0) > 255 else 255.0
        picture = Image.fromarray((deep.clip(0, top) * (255 / top)).astype(np.uint8))
    picture = picture.convert("RGB")
    if picture.size != (SIZE, SIZE):
        scale = SIZE / min(picture.size)
        width, height = (max(SIZE, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - SIZE) // 2, (height - SIZE) // 2
        picture = picture.crop((left, top, left + SIZE, top + SIZE))
    pixels = np.asarray(picture, np.float32).transpose(2, 0, 1)[None]
    return (pixels - MEAN) / STD


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
    """The file's text; `data._pixels` prepares images for training in the same way."""
    mean, std = (", ".join(repr(number) for number in numbers) for numbers in (trained.mean, trained.std))
    return SCRIPT.format(size=arch.resolution, mean=f"[{mean}]", std=f"[{std}]")
