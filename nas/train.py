"""`python -m nas.train ARCH --dataset NAME|PATH`: train one network in full; the same command carries on.

`python -m nas.train RUN --top 5 --control 3` trains a search's best and some of its random networks, and says how well
their brief scores told which are good.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from nas.run.search_options import image_options
from searchspace import command
from searchspace.registry.plugins import plugin_option

EPILOG = """The network is trained with the dataset's classes, at the images' own resolution up to the network's, unless
--resolution says otherwise. Validation images are held out of the training images; test images are read once, at the
end. With several workers the recipe and the batch size stay: every worker takes its part of each batch."""

EXAMPLE = "python -m nas.train runs/a --dataset path/to/images"


def parser() -> command.Parser:
    p = command.Parser(prog="nas.train", description=__doc__, epilog=EPILOG, example=EXAMPLE)
    p.add_argument("arch", help="an arch.yaml, the folder of an export or search, or a name of the zoo")
    p.add_argument(
        "--dataset",
        type=os.path.expanduser,
        help="digits, a folder, or a Hugging Face name (default: that of the search, training or export given as ARCH)",
    )
    p.add_argument("--images", type=int, help="a rehearsal: train on so many images, of every class its share (all)")
    p.add_argument("--top", type=int, metavar="N", help="of a search: train its N best networks, each in RUN/retrained")
    p.add_argument("--control", type=int, metavar="N", help="of a search: train also N of its random networks")
    p.add_argument("--epochs", type=int, help="default: digits 30, others 100")
    p.add_argument("--out", type=command.path, help="folder (default: runs/train-ARCH-DATASET)")
    p.add_argument("--batch-size", type=int, help="training images a step (default: digits 32, others 64)")
    p.add_argument("--learning-rate", type=float, help="at its peak (default: digits 0.05, others 0.008)")
    p.add_argument("--ema", type=float, help="how much the averaged weights keep a step; 0 averages none (0.999)")
    p.add_argument(
        "--mixup", type=float, help="mix images, with shares of Beta(A, A); 0.2 for example (default: 0, off)"
    )
    p.add_argument("--cutmix", type=float, help="paste boxes of other images; 1.0 for example (default: 0, off)")
    p.add_argument("--randaugment", type=int, help="magnitude of kornia's RandAugment, 9 for example (default: 0, off)")
    rounding = "share of the epochs, the last, with weights and maps rounded to 8 bits (0.2)"
    p.add_argument("--qat", type=float, nargs="?", const=0.2, metavar="SHARE", help=rounding)
    p.add_argument("--resolution", type=int, help="pixels trained at")
    image_options(p)
    p.add_argument(
        "--tensorboard", action="store_true", help="also write OUT/tensorboard, an event file for TensorBoard"
    )
    p.add_argument("--seed", type=int, help="default: the search's with --top or --control, else 0")
    p.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="train on N GPUs (or parts of the CPU) through Ray Train (1)",
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--threads", type=int, metavar="N", help="of the CPU (default: the fastest of some timed steps)")
    p.add_argument("--dry-run", action="store_true", help="show what would be trained and how long it would take")
    p.add_argument("--quiet", action="store_true", help="no progress, only the result")
    plugin_option(p)
    return p


def main(arguments: Sequence[str]) -> int:
    args = parser().parse_args(arguments)

    from nas.run import train

    return train.run(args, arguments)


if __name__ == "__main__":
    command.run(main, "nas.train")
