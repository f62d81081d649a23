"""What an engineer writes in an afternoon instead of this project: Optuna's TPE over a MobileNet-like space.

    python experiments/search/user_script.py --dataset path/to/cifar10 --minutes 15 --out user.json

Nothing of this project is used. Stages of MBConv, fused MBConv or bottleneck blocks with MobileNet-like widths;
networks outside the budget, by fvcore at 224 px, are pruned before they are trained; a DataLoader augments image by
image; MedianPruner stops what is behind; the choices of the best network are saved. `against_user.py` compares.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import optuna
import torch
from fvcore.nn import FlopCountAnalysis
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

STRIDES = (1, 2, 2, 2, 1, 2)
WIDTHS = (16, 24, 40, 80, 112, 192)


def conv(a: int, b: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(b),
    ]
    return nn.Sequential(*layers, *([nn.ReLU6()] if act else []))


class Block(nn.Module):
    def __init__(self, kind: str, a: int, b: int, stride: int, expansion: int, kernel: int) -> None:
        super().__init__()
        wide = a * expansion
        if kind == "mbconv":
            parts = [conv(a, wide), conv(wide, wide, kernel, stride, wide), conv(wide, b, act=False)]
        elif kind == "fused":
            parts = [conv(a, wide, kernel, stride), conv(wide, b, act=False)]
        else:
            parts = [conv(a, b // 4), conv(b // 4, b // 4, kernel, stride), conv(b // 4, b, act=False)]
        self.body, self.skips = nn.Sequential(*parts), stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skips else y


def network(params: dict[str, Any], classes: int) -> nn.Sequential:
    scale = params["width"]
    a = max(8, int(32 * scale) // 8 * 8)
    layers: list[nn.Module] = [conv(3, a, 3, 2)]
    for stage, (stride, width) in enumerate(zip(STRIDES, WIDTHS, strict=True)):
        b = max(8, int(width * scale) // 8 * 8)
        for block in range(params[f"depth{stage}"]):
            step = stride if block == 0 else 1
            layers.append(
                Block(params[f"kind{stage}"], a, b, step, params[f"expansion{stage}"], params[f"kernel{stage}"])
            )
            a = b
    last = max(64, int(1280 * scale) // 8 * 8)
    return nn.Sequential(
        *layers, conv(a, last), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(last, classes)
    )


def asked(trial: optuna.Trial) -> dict[str, Any]:
    found: dict[str, Any] = {"width": trial.suggest_float("width", 0.1, 1.0, log=True)}
    for stage in range(len(STRIDES)):
        found[f"kind{stage}"] = trial.suggest_categorical(f"kind{stage}", ["mbconv", "fused", "bottleneck"])
        found[f"depth{stage}"] = trial.suggest_int(f"depth{stage}", 1, 4)
        found[f"expansion{stage}"] = trial.suggest_categorical(f"expansion{stage}", [3, 4, 6])
        found[f"kernel{stage}"] = trial.suggest_categorical(f"kernel{stage}", [3, 5])
    return found


def flops(model: nn.Module) -> float:
    counted = FlopCountAnalysis(model.eval(), torch.zeros(1, 3, 224, 224)).unsupported_ops_warnings(False)
    counted.uncalled_modules_warnings(False)
    return float(sum(counted.by_operator()[name] for name in ("conv", "linear")))


class Photos(Dataset[tuple[Tensor, int]]):
    def __init__(self, rows: Any, mean: Tensor, std: Tensor, augment: bool) -> None:
        self.rows, self.mean, self.std, self.augment = rows, mean, std, augment
        self.image, self.label = columns(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        x = (pixels(self.rows[index][self.image]) - self.mean) / self.std
        if self.augment:
            pad = x.shape[-1] // 8
            x = F.pad(x[None], [pad] * 4, mode="replicate")[0]
            i, j = torch.randint(0, 2 * pad + 1, (2,)).tolist()
            x = x[:, i : i + x.shape[1] - 2 * pad, j : j + x.shape[2] - 2 * pad]
            x = x.flip(-1) if torch.rand(()) < 0.5 else x
        return x, int(self.rows[index][self.label])


def columns(rows: Any) -> tuple[str, str]:
    names = list(rows.features)
    return next(n for n in names if n in ("image", "img")), next(n for n in names if "label" in n)


def pixels(image: Any) -> Tensor:
    picture = image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image["bytes"]))
    return torch.tensor(np.array(picture.convert("RGB")), dtype=torch.float32).permute(2, 0, 1)


def search() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--budget", type=float, default=30e6)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("user.json"))
    args = parser.parse_args()
    begun = time.monotonic()
    rows = datasets.load_dataset(args.dataset, split="train").shuffle(seed=args.seed).select(range(args.images))
    some = torch.stack([pixels(row[columns(rows)[0]]) for row in rows.select(range(min(500, args.images)))])
    mean, std = some.mean((0, 2, 3))[:, None, None], some.std((0, 2, 3))[:, None, None]
    cut = int(0.8 * args.images)
    classes = rows.features[columns(rows)[1]].num_classes
    train = DataLoader(Photos(rows.select(range(cut)), mean, std, True), 64, shuffle=True, drop_last=True)
    score = DataLoader(Photos(rows.select(range(cut, args.images)), mean, std, False), 256)

    def objective(trial: optuna.Trial) -> float:
        params = asked(trial)
        if not 0.6 * args.budget <= flops(network(params, 1000)) <= args.budget:
            raise optuna.TrialPruned
        model = network(params, classes)
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, args.epochs * len(train))
        accuracy = 0.0
        for epoch in range(args.epochs):
            model.train()
            for x, y in train:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y, label_smoothing=0.1).backward()
                optimizer.step()
                schedule.step()
            with torch.no_grad():
                model.eval()
                accuracy = sum(int((model(x).argmax(1) == y).sum()) for x, y in score) / (args.images - cut)
            trial.report(accuracy, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
            if time.monotonic() - begun > 60 * args.minutes:
                trial.study.stop()
                break
        return accuracy

    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=args.seed), pruner=optuna.pruners.MedianPruner()
    )
    study.optimize(objective, timeout=60 * args.minutes)
    trained = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    print(f"{len(study.trials)} asked, {len(trained)} trained; best {study.best_value:.4f}: {study.best_params}")
    args.out.write_text(json.dumps({"trained": len(trained), "score": study.best_value, "params": study.best_params}))


if __name__ == "__main__":
    search()
