"""What ships of a space: it is of that space as it is now, a search begins with it, and can be told not to."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FrozenTrial

from nas.config import SearchConfig
from nas.run import resume, search_options
from nas.run.search import Search
from nas.study import prior, warm_start
from nas.study.opening import open_study
from nas.study.warm_start import Sources
from searchspace import InputError, Space

WORDS = ["--budget", "30MFLOPs", "--resolution", "32"]


def config(*words: str) -> SearchConfig:
    return search_options.config_from_args(search_options.parser().parse_args([*WORDS, *words]))


@pytest.mark.parametrize("name", prior.SPACES)
def test_every_point_is_one_of_the_space_as_it_is(name: str) -> None:
    space, kept = Space.load(name), prior.read(name)
    assert [len(source.y) for source in prior.recall(space).sources] == [len(source.y) for source in kept.sources]
    assert sum(len(source.y) for source in kept.sources) >= 50
    for source in kept.sources:
        assert "/" not in source.dataset  # no path of the machine that it was made on
        assert abs(np.mean(source.y)) < 0.1
        assert min(source.unsure) >= warm_start.UNSURE_ELSEWHERE
    assert prior.text_of(kept) == (Path(prior.__file__).parent / "priors" / f"{name}.json").read_text()


def test_a_narrowed_space_has_it_of_the_networks_that_are_most_like() -> None:
    space = Space.load("mobile")
    whole = prior.recall(space).evidence
    assert prior.recall(space.fix(["num_classes=7", "resolution=64"])).evidence == whole
    assert prior.recall(Space.load("mobile_wide")).evidence == whole
    assert not any("moved" in str(source) for source in prior.recall(space).sources)
    several = space.at_resolutions((64, 128))
    assert {one.point["resolution"] for one in prior.recall(several).evidence} == {128}
    for narrow in (space.without(["hard_swish"]), space.deploy("edgetpu"), space.fix(["head.width=640"])):
        found = prior.recall(narrow).evidence
        assert len(found) == len(whole)
        assert all("moved to the nearest networks" in str(source) for source in prior.recall(narrow).sources)
        for one, before in zip(found, whole, strict=True):
            assert all(one.point[name] in options for name, options in narrow.choices.items())
            assert one.point.keys() == narrow.choices.keys()
            same = one.point.items() <= before.point.items()
            assert one.unsure >= before.unsure
            assert one.y == before.y
            if not same:
                assert one.unsure > before.unsure
    for name in ("resnet", "mcu", "mobile_small", "fast"):
        assert prior.recall(Space.load(name)).sources == ()


def test_what_is_not_offered_is_the_nearest_that_is() -> None:
    assert prior.nearest(5, (3, 5)) == 5
    assert prior.nearest(5, (3, 4)) == 4
    assert prior.nearest(0.25, (0.0, 0.1)) == 0.1
    assert prior.nearest("silu", ("relu6", "none")) == "relu6"


def test_who_begins_with_it() -> None:
    assert config().identity.prior
    for words in (["--no-prior"], ["--sampler", "tpe"], ["--minimize", "params"], ["--evaluate", "a:b"]):
        assert not config(*words).identity.prior
    with pytest.raises(InputError, match="--prior"):
        config("--prior")


def test_a_run_keeps_what_it_began_with(tmp_path: Path) -> None:
    old = tmp_path / "old"  # of before there was a prior
    begun = config()
    old.mkdir()
    replace(begun, identity=replace(begun.identity, prior=False)).save(old)
    text = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(text.replace("  prior: false\n", ""))
    kept = SearchConfig.load(old)
    args = search_options.parser().parse_args([*WORDS, "--run", str(old)])
    assert not resume.carry_on(args, old, kept).identity.prior
    new = tmp_path / "new"
    new.mkdir()
    begun.save(new)
    assert resume.carry_on(args, new, SearchConfig.load(new)).identity.prior
    args = search_options.parser().parse_args([*WORDS, "--run", str(new), "--no-prior"])
    with pytest.raises(InputError, match="prior: on → off"):
        resume.carry_on(args, new, SearchConfig.load(new))


def test_the_first_proposals_are_what_it_expects_much_of(tmp_path: Path) -> None:
    begun = replace(config(), conduct=config().conduct)
    begun = replace(begun, identity=replace(begun.identity, controls=0, baselines=0))
    space = begun.space
    taught = prior.recall(space)
    values = np.array([one.y for one in taught.evidence])
    best = [one.point for one in taught.evidence if one.y > np.quantile(values, 0.8)]

    def near(point: dict[str, object]) -> int:
        return max(sum(point[name] == other[name] for name in space.choices) for other in best)

    with open_study(tmp_path / "with", begun, taught=taught) as study:
        with_it = [near(dict(study.ask().point)) for _ in range(3)]
    drawn = [near(space.random_point(random.Random(seed))) for seed in range(30)]
    assert min(with_it) > max(drawn)


@pytest.mark.parametrize("budget", ["30MFLOPs", "8MFLOPs"])
def test_what_is_proposed_is_what_is_trained(tmp_path: Path, budget: str) -> None:
    """The sampler knows what is too dear at the least width, so that a proposal is not changed to fit afterwards."""
    begun = search_options.config_from_args(search_options.parser().parse_args(["--budget", budget]))
    begun = replace(begun, identity=replace(begun.identity, controls=0, baselines=0))
    with open_study(tmp_path / "run", begun, taught=prior.recall(begun.space)) as study:
        proposals = study.proposals
        asked, suggest = list[Any](), proposals._suggest

        def noted(seed: int, trials: list[FrozenTrial]) -> Any:
            asked.append(suggest(seed, trials))
            return asked[-1]

        proposals._suggest = noted  # type: ignore[method-assign]
        for _ in range(3):
            trial = study.ask()
            assert trial.point == asked[-1]


def test_runs_of_one_task_are_ranked_together(tmp_path: Path) -> None:
    space, runs = Space.load("mobile"), []
    for seed in (0, 1):
        begun = config("--seed", str(seed), "--no-prior")
        begun = replace(begun, identity=replace(begun.identity, baselines=0, controls=9))
        study = open_study(tmp_path / str(seed), begun)
        for number in range(4):
            study.tell(study.ask(), 0.1 * number + 0.5 * seed)
        runs.append((begun, study.optuna))
    source = prior.learn("two", runs, space)
    assert len(source.y) == 8
    assert min(source.y[4:]) > max(source.y[:4])
    assert prior.text_of(Sources((source,))).count("\n") == 8 + 4
    with pytest.raises(InputError, match="runs of one budget, dataset and recipe"):
        prior.learn(
            "two", [runs[0], (replace(begun, identity=replace(begun.identity, budget=("9ms",))), study.optuna)], space
        )
    with pytest.raises(InputError, match="at least one run"):
        prior.learn("none", [], space)


def test_a_search_says_what_it_begins_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*WORDS, "--run", str(tmp_path / "run"), "--dry-run"]
    Search(search_options.parser().parse_args(words)).carry_out()
    said = " ".join(capsys.readouterr().out.split())
    for source in prior.read("mobile").sources:
        assert f"prior: {source}; --no-prior leaves it out" in said
    Search(search_options.parser().parse_args([*words, "--no-prior"])).carry_out()
    assert "prior:" not in capsys.readouterr().out
