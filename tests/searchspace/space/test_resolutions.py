"""Resolution as a choice: known networks at each, and training in proportion, so that none is cheaper than it seems."""

from __future__ import annotations

import io
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from nas.analysis import tables
from nas.config import TrainConfig
from nas.data.datasets import Split
from nas.full_training.training_folder import TrainingPlan
from nas.run import search_options
from nas.study.records import trial_of
from nas.study.study import Study
from nas.training.trainer import Training, resize
from nas.trial import Trial, proxy
from nas.views.terminal import print_summary
from nas.workers.evaluate import Context, brief_training, guard
from searchspace import Budget, InputError, Space, build, cost
from searchspace.document import parse, plain
from searchspace.space.preflight import preflight

SPACE = Space.load("mobile_small").at_resolutions((96, 224, 160))
BUDGET = Budget.parse("40MFLOPs")


def images(side: int, count: int = 48) -> Split:
    """Bright and dark noise, to be told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pixels = (rng.integers(0, 100, (count, 3, side, side)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    return Split("noise", pixels, labels, pixels, labels, ("dark", "bright"), False)


def test_one_resolution_is_fixed_and_several_are_a_choice() -> None:
    assert (SPACE.resolutions, SPACE.extremes, SPACE.pixels) == ((96, 160, 224), (96, 224), "96, 160 or 224 px")
    one = Space.load("mobile_small").at_resolutions((160,))
    assert (one.resolutions, one.extremes, one.pixels) == ((160,), None, "160 px")
    assert "resolution" not in one.choices
    with pytest.raises(InputError, match="resolution: 96 is listed twice"):
        one.at_resolutions((96, 96))


@pytest.mark.parametrize(("text", "wanted"), [("96", (96,)), ("96,128,160,224", (96, 128, 160, 224))])
def test_the_option_takes_one_or_several(text: str, wanted: tuple[int, ...]) -> None:
    config = search_options.config_from_args(
        search_options.parser().parse_args(["--budget", "40MFLOPs", "--resolution", text])
    )
    assert config.space.resolutions == wanted


@pytest.mark.parametrize("text", ["0", "96,", "96,x", "", "-1", "1e2", "٣"])
def test_what_is_no_resolution_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--resolution: 224, or several as in 96,128,160,224, is accepted"):
        search_options.parser().parse_args(["--budget", "40MFLOPs", f"--resolution={text}"])


def test_every_network_costs_what_it_does_at_its_own_resolution() -> None:
    rng, seen = random.Random(0), set()
    for seed in range(40):
        found = SPACE.fit(SPACE.random_point(rng), BUDGET, seed=seed)
        if found is not None:
            assert found.arch.resolution == found.point["resolution"]
            assert found.cost == cost(found.arch)
            seen.add(found.arch.resolution)
    assert seen == {96, 160, 224}


def test_a_known_network_is_known_at_every_resolution_the_largest_first() -> None:
    assert list(SPACE.known) == [f"mobilenet_v3_small@{pixels}" for pixels in (224, 160, 96)]
    widths = []
    for name in SPACE.known:
        found = SPACE.fit_known(name, BUDGET)
        assert found is not None
        assert found.arch.resolution == SPACE.known[name]["resolution"]
        widths.append(found.width_mult)
    assert widths == sorted(widths)


def test_a_search_teaches_one_of_fewer_resolutions() -> None:
    point = SPACE.random_point(random.Random(0)) | {"resolution": 160}
    one, other = Space.load("mobile_small").at_resolutions((160,)), SPACE.at_resolutions((96, 128))
    assert one.adopt(SPACE, point) == {name: point[name] for name in one.choices}
    assert SPACE.adopt(one, {name: point[name] for name in one.choices}) == point
    assert other.adopt(SPACE, point) is None


@pytest.mark.parametrize("pixels", [32, 64, 128])
def test_what_is_trained_costs_in_proportion_to_what_is_deployed(pixels: int) -> None:
    """The same width at a lower resolution: cheaper in training by about as much as when deployed."""
    point = SPACE.random_point(random.Random(0))
    deployed = {side: SPACE.arch({**point, "resolution": side}) for side in (96, 160, 224)}
    trained = {side: proxy(arch, 10, pixels, SPACE.extremes) for side, arch in deployed.items()}
    assert trained[224].resolution == pixels
    assert {side: arch.resolution for side, arch in trained.items()} == {
        side: round(pixels * side / 224) for side in deployed
    }
    assert len({arch.total_stride for arch in trained.values()}) == 1
    for side in (96, 160):
        share = cost(trained[side]).macs / cost(trained[224]).macs
        assert share == pytest.approx(cost(deployed[side]).macs / cost(deployed[224]).macs, rel=0.35)


def test_with_one_resolution_training_is_as_it_was() -> None:
    arch = Space.load("mobile").sample(0, BUDGET)
    assert proxy(arch, 10, 32) == arch.adapt(10, 32)


def test_images_are_made_smaller_without_aliasing_and_left_alone_where_they_have_the_size() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 200
    assert resize(stripes, 64) is stripes
    assert resize(stripes, None) is stripes
    smaller = resize(stripes, 16)
    assert smaller.shape == (1, 3, 16, 16)
    assert (smaller - 100).abs().max() < 25


def test_a_trial_trains_and_is_scored_at_its_share_of_the_pixels() -> None:
    point = SPACE.random_point(random.Random(0)) | {"resolution": 96}
    found = SPACE.fit(point, BUDGET)
    assert found is not None
    trial = Trial(0, found.arch, found.cost, "search", resolutions=SPACE.extremes)
    assert Trial.of_text(trial.to_text()) == trial
    split, config = images(64), TrainConfig(epochs=1, batch_size=16)
    seen: set[int] = set()

    def note(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen.update(int(x.shape[-1]) for x in args if x.shape[1] == 3)

    handle = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        context = Context(split, "cpu", 0, config.epochs, train=config)
        (result,) = guard(trial, context, brief_training)
    finally:
        handle.remove()
    assert result.error == ""
    assert seen == {96, round(64 * 96 / 224)}  # deployed, to be audited and timed, and trained


def test_scores_are_of_the_images_as_they_are_trained() -> None:
    split, config = images(32), TrainConfig(epochs=1, batch_size=16)
    small = SPACE.arch({**SPACE.random_point(random.Random(0)), "resolution": 96}, 0.5).adapt(2, 14)
    training = Training(build(small), split, config, 0, "cpu", pixels=14)
    (epoch,) = training
    shown = (resize(torch.from_numpy(split.val_images[:]), 14).float() - training.mean) / training.std
    with torch.no_grad():
        logits, labels = training.model.eval()(shown), torch.from_numpy(split.val_labels)
    assert (logits.argmax(1) == labels).float().mean().item() == pytest.approx(epoch.accuracy)
    assert F.cross_entropy(logits, labels).item() == pytest.approx(epoch.loss, rel=1e-5)


def test_networks_that_are_trained_in_full_to_be_compared_keep_their_shares() -> None:
    archs = [SPACE.arch({**SPACE.random_point(random.Random(0)), "resolution": side}, 0.5) for side in (96, 224)]
    plans = [TrainingPlan(arch, resolutions=SPACE.extremes) for arch in archs]
    assert [plan.adapt(images(112)).resolution for plan in plans] == [48, 112]
    assert [parse(TrainingPlan, plain(plan)) for plan in plans] == plans
    assert [TrainingPlan(arch).adapt(images(112)).resolution for arch in archs] == [112, 112]


def test_a_study_keeps_the_resolution_of_every_trial(tmp_path: Path) -> None:
    study = Study.open(tmp_path, SPACE, BUDGET, "random", controls=2, baselines=2)
    trials = [study.ask() for _ in range(4)]
    assert [trial.baseline for trial in trials[:2]] == ["mobilenet_v3_small@224", "mobilenet_v3_small@160"]
    for trial in trials:
        assert trial.resolutions == (96, 224)
        assert trial_of(study.trials[trial.number]) == trial
        study.tell(trial, 0.5)
    frame = tables.frame(study.records)
    assert list(frame["resolution"]) == [trial.arch.resolution for trial in trials]
    assert study.best.arch.resolution == study.best.point["resolution"]
    study.validation_images, out = 100, io.StringIO()
    config = search_options.config_from_args(
        search_options.parser().parse_args(["--budget", "40MFLOPs", "--resolution", "96,224"])
    )
    print_summary(Console(file=out, width=200), study, tmp_path, config, "")
    assert re.search(r"^trial 0: mobilenet_v3_small@224, 224 px, 11 blocks", out.getvalue(), re.MULTILINE)


def test_the_pre_flight_counts_all_resolutions() -> None:
    found = preflight(SPACE, BUDGET, sample=100)
    assert found.smallest[0].resolution == 96
    assert not found.left_out
    assert replace(found, left_out={"x": "y"}).left_out == {"x": "y"}
