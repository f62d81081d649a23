from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from nas import report
from nas.analysis import comparison
from nas.run.folder import lock_run as folder_opened
from nas.run.search_options import config_from_args, parser
from nas.samplers import SAMPLERS
from nas.search import main
from nas.study import objectives
from nas.study.objectives import check_known
from nas.study.opening import open_study
from nas.study.records import hypervolumes
from nas.study.study import Study
from nas.trial import Result, TrialRecord, rank
from searchspace import Budget, InputError, Space, cost
from tests.nas.study.test_study import BUDGET, advance, opened
from tests.searchspace.space.test_space import SMALL
from tests.support.records import record

NAMES = sorted(SAMPLERS)


def outcome(number: int, accuracy: float, macs: float) -> TrialRecord:
    return record(number, score=accuracy, minimized={"macs": macs})


def test_the_front_is_what_nothing_else_beats() -> None:
    rng = np.random.default_rng(0)
    scores, costly = rng.integers(0, 9, 60) / 10, rng.integers(1, 9, (60, 2)).tolist()
    rows = [(-a, *c) for a, c in zip(scores, costly, strict=True)]
    kept = objectives.front(scores.tolist(), costly)
    for i, row in enumerate(rows):
        beaten = any(all(x <= y for x, y in zip(other, row, strict=True)) and other != row for other in rows)
        assert (not beaten) == (row in [rows[k] for k in kept])
        assert not (i in kept and rows[:i].count(row))
    assert [costly[i] for i in kept] == sorted(costly[i] for i in kept)


def test_of_equal_scores_what_costs_least_is_named_and_no_other_beats_it() -> None:
    """Few images score a brief trial, so that many are equal; a lower loss is no reason to take more milliseconds."""
    slow = record(3, score=0.75, loss=0.2, minimized={"latency": 2.9, "macs": 1e6})
    fast = record(1, score=0.75, loss=0.9, minimized={"latency": 0.71, "macs": 2e6})
    worse = record(2, score=0.74, loss=0.1, minimized={"latency": 0.1, "macs": 1e6})
    assert rank([slow, worse, fast]) == [fast, slow, worse]
    assert rank([slow, fast])[0] in objectives.unbeaten([slow, worse, fast], objectives.minimised_of)


def test_a_number_is_better_where_all_is_better_and_directions_reach_the_whole_front() -> None:
    scores, costly = [0.5, 0.7, 0.8, 0.85, 0.4], [[10.0], [20.0], [40.0], [80.0], [90.0]]
    won = set()
    for seed in range(60):
        number = objectives.scalarisation(scores, costly, random.Random(seed))
        assert number(0.9, [5.0]) > max(number(a, c) for a, c in zip(scores, costly, strict=True))
        assert number(0.6, [30.0]) <= number(0.7, [30.0])
        assert number(0.6, [30.0]) <= number(0.6, [20.0])
        won.add(max(range(5), key=lambda i: number(scores[i], costly[i])))
    assert won == {0, 1, 2, 3}
    assert objectives.scalarisation([0.5], [[1.0, 2.0]], random.Random(0))(0.5, [1.0, 2.0]) > 0


def test_hypervolume_is_the_share_of_the_box() -> None:
    trials = [outcome(0, 0.5, 50e6), outcome(3, 0.4, 60e6), outcome(4, 0.8, 100e6), outcome(5, 0.8, 25e6)]
    found = hypervolumes(trials, ["macs"], Budget.parse("100MFLOPs"))
    assert [number for number, _ in found] == [0, 3, 4, 5]
    assert [volume for _, volume in found] == pytest.approx([0.25, 0.25, 0.25, 0.6])
    unlimited = hypervolumes(trials, ["macs"], Budget.parse("1MParams"))
    assert [volume for _, volume in unlimited] == pytest.approx([0.25, 0.25, 0.25, 0.6])
    assert [trial.number for trial in comparison.front(trials)] == [5]


@pytest.mark.parametrize("name", [name for name in NAMES if name in ("local", "predictor", "tpe")])
def test_every_sampler_seeks_a_front_within_the_budget(tmp_path: Path, name: str) -> None:
    study = opened(tmp_path, sampler=name, minimize=["macs", "params"])
    advance(study, 9)
    spent = [trial.user_attrs["macs"] for trial in study.trials]
    shares = [trial.params[objectives.SHARE] for trial in study.trials]
    assert all(0.97 * share <= macs / 100e6 <= share for macs, share in zip(spent, shares, strict=True))
    assert len(set(shares)) > 2
    study.close()
    again = opened(tmp_path, sampler=name, minimize=["macs", "params"])
    straight = opened(tmp_path / "b", sampler=name, minimize=["macs", "params"])
    assert [t.digest for t in again.front()] == [t.digest for t in study.front()]
    assert advance(again, 1) == advance(straight, 10)[9:]


def test_records_are_points_of_the_space_and_interrupted_ones_keep_their_share(tmp_path: Path) -> None:
    study = opened(tmp_path, minimize=["params"], baselines=1)
    first, second = study.ask(), study.ask()
    assert (first.role, study.trials[0].params[objectives.SHARE]) == ("baseline", 1.0)
    assert second.point.keys() == study.space.choices.keys()
    study.close()
    again = opened(tmp_path, minimize=["params"], baselines=1)
    retried = [again.ask(), again.ask()]
    assert [t.digest for t in retried] == [first.digest, second.digest]
    shares = [trial.params[objectives.SHARE] for trial in again.trials]
    assert shares[2:] == shares[:2]
    assert again.trials[2].user_attrs["minimize"] == {"params": cost(first.arch).params}
    again.close()
    with pytest.raises(InputError, match="holds another search"):
        opened(tmp_path)


def test_a_front_is_found_sooner_than_by_chance(tmp_path: Path) -> None:
    """Hypervolume after 24 trials; accuracy has an optimum in what is free and grows slowly with the cost."""
    reached: dict[str, list[float]] = {"predictor": [], "random": []}
    space = Space({**SMALL, "width_mult": {"fit": [0.1, 4.0]}}, "small")
    for name, found in reached.items():
        for seed in range(2):
            study = Study.open(
                tmp_path / f"{name}{seed}", space, Budget.parse("1MFLOPs"), name, seed, controls=6, minimize=["macs"]
            )
            for _ in range(24):
                trial = study.ask()
                matched = sum(trial.point[n] == options[-1] for n, options in space.choices.items())
                study.tell(trial, 0.1 * matched + 0.1 * (trial.cost.macs / 1e6) ** 0.5)
            found.append(hypervolumes(study.records, ["macs"], study.budget)[-1][1])
    assert sum(reached["predictor"]) > sum(reached["random"])


def test_a_range_as_budget_leaves_only_shares_inside_it() -> None:
    assert objectives.shares(Budget.parse("100MFLOPs")) == objectives.SHARES
    assert objectives.shares(Budget.parse("60-100MFLOPs")) == (1.0, 0.8, 0.63)
    assert objectives.shares(Budget.parse("100-100MFLOPs")) == (1.0,)
    assert BUDGET.scale(0.5) == Budget.parse("50MFLOPs")


def test_the_command_and_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--budget", "100MFLOPs", "--space", "rexnet", "--minimize", "params", "--minimize", "peak_memory"]
    config = config_from_args(parser().parse_args(arguments))
    assert config.identity.minimize == ("params", "peak_memory")
    with folder_opened(tmp_path / "run", config):
        study = open_study(tmp_path / "run", config)
        study.validation_images = 300
        for index in range(4):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=0.5 + index / 10, loss=1.0))
            study.tell(trial, 0.5 + index / 10)
    assert report.main([str(tmp_path / "run")]) == 0
    assert "networks that nothing else beats in accuracy and params, peak_memory." in capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    for title in ("Accuracy against params, minimised", "Accuracy against peak_memory, minimised", "Hypervolume from"):
        assert page.count(f">{title}") == 1
    assert "<h2>Pareto front</h2>" in page


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--minimize", "beauty"], "minimize 'beauty': macs, params, latency"),
        (["--minimize", "macs", "--warm-start", "a"], "give one of the two"),
    ],
)
def test_nonsense_is_refused(more: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        main(["--budget", "100MFLOPs", "--run", str(tmp_path / "run"), *more])
    assert not list(tmp_path.iterdir())


def test_latency_is_minimised_where_a_device_is_known() -> None:
    with pytest.raises(InputError, match="minimize latency: no layer times of a device"):
        check_known(Space.load("rexnet"), ["params", "latency"])
