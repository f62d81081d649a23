"""The search beside the script that a user writes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from experiments.search import against_user, user_script
from searchspace import cost, from_module
from tests.support.tables import rows


def choices(draw: random.Random) -> dict[str, object]:
    found: dict[str, object] = {"width": draw.uniform(0.1, 1.0)}
    for stage in range(len(user_script.STRIDES)):
        found[f"kind{stage}"] = draw.choice(["mbconv", "fused", "bottleneck"])
        found |= {f"depth{stage}": draw.randint(1, 4), f"expansion{stage}": draw.choice([3, 4, 6])}
        found[f"kernel{stage}"] = draw.choice([3, 5])
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_user_s_networks_are_read_whole(seed: int) -> None:
    network = user_script.network(choices(random.Random(seed)), 1000).eval()
    assert cost(from_module(network)).macs == user_script.flops(network)


def photos(root: Path) -> Path:
    digits = load_digits()
    for index in range(300):
        part = "test" if index >= 200 else "train"
        folder = root / part / str(digits.target[index])
        folder.mkdir(parents=True, exist_ok=True)
        grey = np.round(digits.images[index] * 15.9).astype(np.uint8)
        Image.fromarray(grey).resize((32, 32)).save(folder / f"{index}.png")
    return root


@pytest.mark.slow
def test_against_user(tmp_path: Path) -> None:
    against_user.main(["--smoke", "--dataset", str(photos(tmp_path / "digits")), "--out", str(tmp_path)])
    found = {row["network"]: row for row in rows(tmp_path / "against_user.csv")}
    assert set(found) == {"nas.search 0", "user's script 0"}
    assert all(float(row["MMACs"]) <= 30 for row in found.values())
    assert (tmp_path / "against_user.png").stat().st_size > 10_000
    assert "mean over 1 searches of each" in (tmp_path / "against_user.md").read_text()
