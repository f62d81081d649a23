"""Mixup, cutmix and RandAugment: what comes out is what was drawn, and repeats with the generator's state."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nas import train
from nas.config import TrainConfig
from nas.training import augment
from nas.training.augment import mix_pairs, randaugment
from searchspace.errors import InputError
from tests.nas.test_search import refusal

LABELS = torch.arange(8) % 4


def images() -> torch.Tensor:
    """Image i is i everywhere, so that every pixel says which image it is of."""
    return torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, 16, 16).clone()


def test_without_mixing_nothing_is_touched() -> None:
    x = images()
    same, labels = mix_pairs(x, LABELS, 4, TrainConfig())
    assert same is x
    assert labels is LABELS


@pytest.mark.parametrize(
    "config", [TrainConfig(mixup=1.0), TrainConfig(cutmix=1.0), TrainConfig(mixup=0.2, cutmix=1.0)]
)
def test_the_shares_of_the_classes_are_those_of_the_pixels(config: TrainConfig) -> None:
    torch.manual_seed(0)
    seen = set()
    for _ in range(20):
        x, shares = mix_pairs(images(), LABELS, 4, config)
        assert shares.sum(1) == pytest.approx(1)
        # with one image a value, the mean pixel is linear in the share: x = i + (1 - share) (j - i)
        for index in range(8):
            values = x[index, 0].unique()
            assert len(values) <= (2 if config.cutmix else 1)
            other = [j for j in range(8) if j % 4 != index % 4 and shares[index, j % 4] > 0]
            if other:
                own = float(shares[index, index % 4])
                means = [own * index + (1 - own) * j for j in other]
                assert min(abs(float(x[index].mean()) - mean) for mean in means) < 1e-4
                seen.add(round(own, 3))
    assert len(seen) > 10


def test_draws_repeat_with_the_generators_state() -> None:
    state = torch.get_rng_state()
    first = mix_pairs(images(), LABELS, 4, TrainConfig(mixup=0.2, cutmix=1.0))
    torch.set_rng_state(state)
    again = mix_pairs(images(), LABELS, 4, TrainConfig(mixup=0.2, cutmix=1.0))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_mixed_classes_take_smoothing_as_hard_ones_do() -> None:
    logits = torch.randn(8, 4)
    hard = F.cross_entropy(logits, LABELS, label_smoothing=0.1)
    soft = F.cross_entropy(logits, F.one_hot(LABELS, 4).float(), label_smoothing=0.1)
    assert soft == pytest.approx(float(hard))


@pytest.mark.skipif(importlib.util.find_spec("kornia") is None, reason="needs kornia")
def test_randaugment_is_kornias_and_repeats() -> None:
    x = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(0)
    policy = randaugment(9)
    state = torch.get_rng_state()
    first = policy(x)
    assert first.shape == x.shape
    assert 0 <= float(first.min()) <= float(first.max()) <= 255
    assert not torch.equal(first, x.float())
    torch.set_rng_state(state)
    assert torch.equal(policy(x), first)
    assert randaugment(0)(x) is x


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'cnn-budget-search\[train\]'"):
        randaugment(9)


def test_a_recipe_of_nonsense_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("mixup", "-1"), ("cutmix", "nan"), ("randaugment", "31")):
        said = refusal(
            train.main, ["resnet18", "--dataset", "digits", f"--{option}", value, "--out", str(tmp_path / "x")], capsys
        )
        assert f"{option}: from 0 (none) to" in said
