from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from nas.config import SearchConfig, SearchSpec, TrainConfig
from nas.run.search import taught_by
from nas.samplers import Predictor
from nas.samplers.domain import Domain
from nas.samplers.observations import PriorObservation
from nas.study import objectives, warm_start
from nas.study.opening import open_study
from nas.study.study import Study
from searchspace import InputError, Space, presets
from tests.nas.samplers.test_samplers import BUDGET, CHOICES, advanced, macs, score
from tests.nas.study.test_study import advance
from tests.searchspace.space.test_space import SMALL

SPACE = Space({**SMALL, "width_mult": {"fit": [0.2, 4.0]}}, "small.yaml")


def config(space: Space = SPACE, **changes: Any) -> SearchConfig:
    return SearchConfig(SearchSpec(**{"space": space.data, "budget": ("1MFLOPs",), **changes}), space_name="small.yaml")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 14 trials."""
    run = tmp_path_factory.mktemp("runs") / "old"
    study = Study.open(run, SPACE, config().budget, controls=8)
    advance(study, 14)
    config().save(run)
    return run


def test_the_same_task_teaches_its_scores_another_only_their_order(old: Path) -> None:
    (same,) = taught_by([str(old)], config()).sources
    (other,) = taught_by([str(old)], config(train=TrainConfig(epochs=9))).sources
    assert same.same
    assert not other.same
    assert len(same.y) == len(other.y) == 14
    assert sorted(range(14), key=same.y.__getitem__) == sorted(range(14), key=other.y.__getitem__)
    assert max(same.unsure) == 0
    assert min(other.unsure) == warm_start.UNSURE_ELSEWHERE
    assert (other.dataset, other.budget, other.train) == ("digits", ("1MFLOPs",), {})


def test_only_whole_points_of_this_space_are_taken_over(old: Path) -> None:
    narrow = SPACE.fix(["stage1.depth=2"])
    (source,) = taught_by([str(old)], config(narrow)).sources
    assert 0 < len(source.y) < 14
    assert all(point.keys() == narrow.choices.keys() for point in source.points)
    wide = Space({**SPACE.data, "stem": {"width": {"choice": [8, 16]}}}, "wide.yaml")
    (source,) = taught_by([str(old)], config(wide)).sources
    assert len(source.y) == 14
    assert {point["stem.width"] for point in source.points} == {8}
    with pytest.raises(InputError, match="of 14 finished trials 0 are points of this space"):
        taught_by([str(old)], config(SPACE.fix(["stem.width=24"])))
    with pytest.raises(InputError, match=r"warm-start .*no run folder"):
        taught_by([str(old.parent / "nothing")], config())


def test_of_a_run_that_minimises_only_what_uses_the_whole_budget_teaches(tmp_path: Path) -> None:
    spent = config(minimize=("params",))
    study = open_study(tmp_path, spent)
    advance(study, 14)
    spent.save(tmp_path)
    whole = [trial for trial in study.trials if trial.params[objectives.SHARE] == 1.0]
    (source,) = taught_by([str(tmp_path)], config()).sources
    assert 2 <= len(source.points) == len(whole) < 14
    assert all({**point, objectives.SHARE: 1.0} in [trial.params for trial in whole] for point in source.points)


def test_a_run_carries_on_without_the_old_folder(old: Path, tmp_path: Path) -> None:
    begun = config(warm_start=(str(old),))
    taught = taught_by(begun.identity.warm_start, begun)

    def opened(run: str) -> Study:
        return open_study(tmp_path / run, begun, taught=found)

    found = taught
    straight = advance(opened("a"), 8)
    advance(opened("b"), 5)
    warm_start.save(taught, tmp_path / "b")
    loaded = warm_start.load(tmp_path / "b")
    assert loaded is not None
    assert loaded == taught
    found = loaded
    assert advance(opened("b"), 3) == straight[5:]
    assert len(opened("a").trials) == 8
    assert warm_start.load(tmp_path / "a") is None
    assert straight != advance(open_study(tmp_path / "c", config(), taught=warm_start.Sources()), 8)
    (tmp_path / "a" / warm_start.FILE).write_text("[")
    with pytest.raises(InputError, match=r"evidence.json: cannot be read"):
        warm_start.load(tmp_path / "a")
    tpe = replace(begun, identity=replace(begun.identity, sampler="tpe"))
    with pytest.raises(InputError, match="teaches the sampler predictor"):
        open_study(tmp_path / "d", tpe, taught=taught)


def test_evidence_of_another_task_helps() -> None:
    """Best of 8 trials; the evidence ranks 40 random points by a distorted score, of another scale."""
    luck, domain = random.Random(0), Domain(CHOICES, macs, BUDGET)
    points = [domain.fresh(domain.draw(luck), (), luck) for _ in range(40)]
    scores = {i: (score(point) + luck.gauss(0, 0.3)) ** 3 for i, point in enumerate(points)}
    ranks = {i: rank for rank, i in enumerate(sorted(scores, key=scores.__getitem__))}
    known = [
        PriorObservation(point, 3.4 * ranks[i] / 39 - 1.7, warm_start.UNSURE_ELSEWHERE)
        for i, point in enumerate(points)
    ]
    best: dict[bool, list[float]] = {True: [], False: []}
    for warm in best:
        for seed in range(4):
            sampler = Predictor(CHOICES, macs, BUDGET, seed, evidence=known if warm else ())
            best[warm].append(max(map(score, advanced(optuna.create_study(direction="maximize", sampler=sampler), 8))))
    assert min(best[True]) > max(best[False])


def test_a_run_of_before_a_space_had_a_choice_teaches_it_still() -> None:
    """`mobile` of before it had branches, universal blocks and kernels of 7."""
    now = Space.load("mobile")
    text = Path(presets.find("space", "spaces", "mobile")).read_text()
    for new in ("  first_kernel: 3\n", "  branches: {choice: [0, 1], weights: [15, 1]}\n", "    stage*.branches: 0\n"):
        text = text.replace(new, "")
    text = text.replace(", universal], weights: [28, 6, 4, 2, 2]", "]").replace(
        "[3, 5, 7], weights: [12, 4, 1]", "[3, 5]"
    )
    before, rng = Space(yaml.safe_load(text)), random.Random(0)
    for _ in range(20):
        point = before.random_point(rng)
        adopted = now.adopt(before, point)
        assert adopted == {**point, **{f"stage{n}.branches": 0 for n in range(1, 7)}}
        assert before.adopt(now, adopted) == point
        assert now.arch(adopted, 0.5).digest == before.arch(point, 0.5).digest
        assert before.adopt(now, {**adopted, "stage2.branches": 1}) is None
        assert before.adopt(now, {**adopted, "stage2.block": "universal"}) is None
