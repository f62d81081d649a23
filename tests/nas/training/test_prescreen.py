from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import yaml

from nas import search
from nas.config import SCORES, DataConfig, Prescreen, SearchConfig
from nas.data.datasets import Split, load
from nas.study.study import Study
from nas.training.prescreen import Screen
from nas.training.zero_cost import PROXIES
from searchspace import Budget, InputError, Space, cost
from searchspace.space.space import Candidate
from tests.searchspace.space.test_space import SMALL

BUDGET = Budget.parse("30MFLOPs")
SPACE = Space(SMALL)


@pytest.fixture(scope="module")
def digits() -> Split:
    return load(DataConfig(images=300), seed=0)


def candidates(number: int) -> list[Candidate]:
    archs = [SPACE.arch(SPACE.random_point(random.Random(seed))) for seed in range(number)]
    return [Candidate({}, arch, cost(arch), 1.0) for arch in archs]


def test_every_score_has_a_name() -> None:
    assert {*PROXIES, "params", "macs", "activations"} == set(SCORES)


@pytest.mark.parametrize("by", SCORES)
def test_the_best_by_each_score_is_chosen(digits: Split, by: str) -> None:
    drawn = candidates(3)
    screen = Screen(Prescreen(3, by), digits, seed=0)
    scores = [screen.score(candidate) for candidate in drawn]
    assert all(map(math.isfinite, scores))
    assert len(set(scores)) == 3
    assert scores[screen.best(drawn)] == max(scores)
    assert screen.best(drawn[::-1]) == 2 - screen.best(drawn)
    assert Screen(Prescreen(3, by), digits, seed=0).score(drawn[1]) == scores[1]


def test_what_cannot_be_scored_is_the_worst(digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    screen, known = Screen(Prescreen(2), digits, seed=0), iter([math.nan, -1e9, math.inf])
    monkeypatch.setattr(Screen, "score", lambda self, candidate: next(known))
    assert screen.best(candidates(3)) == 1


class Largest:
    """The most parameters of so many."""

    draws = 4

    def __init__(self) -> None:
        self.asked: list[list[Candidate]] = []

    def best(self, candidates: list[Candidate]) -> int:
        self.asked.append(list(candidates))
        return max(range(len(candidates)), key=lambda i: candidates[i].cost.params)


def test_only_what_the_sampler_proposes_is_screened(tmp_path: Path) -> None:
    study = Study.open(tmp_path, Space.load("mobile"), BUDGET, "random", seed=0, controls=2)
    plain = Study.open(tmp_path / "plain", Space.load("mobile"), BUDGET, "random", seed=0, controls=2)
    study.proposals.screen = chooser = Largest()
    trials = [study.ask() for _ in range(4)]
    controls = [plain.ask() for _ in range(2)]
    assert [trial.digest for trial in trials[:2]] == [trial.digest for trial in controls]
    assert [len({candidate.arch.digest for candidate in asked}) for asked in chooser.asked] == [4, 4]
    for trial, asked in zip(trials[2:], chooser.asked, strict=True):
        assert trial.cost.params == max(candidate.cost.params for candidate in asked)


def test_a_search_with_a_prescreen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    words = f"--budget 500kFLOPs --space {tmp_path}/small.yaml --resolution 32 --trials 3 --epochs 1 --quiet"
    told = [*words.split(), "--run", str(run), "--prescreen", "2", "--prescreen-by", "naswot"]
    assert search.main(told) == 0
    assert SearchConfig.load(run).identity.prescreen == Prescreen(2, "naswot")
    assert "best network" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--prescreen", "0"], "prescreen: at least 1, not 0"),
        (["--prescreen", "8", "--prescreen-by", "beauty"], "prescreen-by 'beauty': synflow, naswot"),
        (["--prescreen", "8", "--minimize", "params"], "not with --minimize"),
    ],
)
def test_nonsense_is_refused(more: list[str], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        search.main(["--budget", "100MFLOPs", "--run", str(tmp_path / "run"), *more])
    assert not list(tmp_path.iterdir())
