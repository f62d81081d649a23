from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nas.analysis import comparison, tables
from nas.analysis.finals import Duel
from nas.metric import DEFAULT_METRIC, Metric
from nas.run import folder
from nas.study import objectives
from nas.trial import Result, TrialRecord, rank
from nas.views import page
from searchspace import Arch, Budget
from tests.nas.study.test_study import opened
from tests.support.paths import ROOT
from tests.support.records import record


def outcome(number: int, role: str, accuracy: float, state: Any = "complete", epochs: int = 2) -> TrialRecord:
    curve = dict.fromkeys(range(1, epochs + 1), accuracy)
    point = {"stage1.block": "mbconv"}
    measured = {"loss": 1 - accuracy, "network": "n, with a comma"}
    return record(number, state, accuracy, curve=curve, point=point, role=role, **measured)


def outcomes(search: list[float], control: list[float]) -> list[TrialRecord]:
    roles = [("search", a) for a in search] + [("control", a) for a in control]
    return [outcome(number, role, accuracy) for number, (role, accuracy) in enumerate(roles)]


def test_expected_best_is_the_mean_over_all_subsets() -> None:
    scores = np.array([0.3, 0.9, 0.5, 0.7, 0.1])
    for k in range(1, 6):
        every = np.mean([max(subset) for subset in combinations(scores, k)])
        assert comparison.expected_best(scores, k) == pytest.approx(every)


def test_a_clear_difference_is_called_one_and_noise_noise() -> None:
    clear = comparison.compare(outcomes([0.90, 0.91, 0.92, 0.93], [0.50, 0.55, 0.52]), images=1000)
    assert clear is not None
    assert clear.k == 3
    assert not clear.noise
    assert clear.difference > 0.3
    equal = comparison.compare(outcomes([0.90, 0.91, 0.92], [0.92, 0.90, 0.91]), images=300)
    assert equal is not None
    assert equal.noise


def test_too_few_trials_prove_nothing() -> None:
    """Two of four by chance best on one side: the interval leaves 0 out, the exact test does not."""
    few = comparison.compare(outcomes([0.90, 0.91], [0.50, 0.55]), images=1000)
    assert few is not None
    assert few.difference_interval[0] > 0
    assert few.p_value == pytest.approx(1 / 3)
    assert few.noise


def test_an_interval_that_the_test_does_not_bear_out_is_called_too_narrow() -> None:
    found = comparison.compare(outcomes([0.90, 0.91, 0.89, 0.92], [0.50, 0.55, 0.52, 0.51]), images=1000)
    assert found is not None
    assert "more than noise" in comparison.sentences(found)[1]
    doubted = comparison.sentences(replace(found, p_value=0.2))[1]
    assert "it may be noise, as the test says, which is exact; the interval is too narrow" in doubted
    plain = comparison.sentences(replace(found, p_value=0.2, difference_interval=(-0.1, 0.1)))[1]
    assert plain.endswith("it may be noise.")


def test_the_permutation_test_counts_all_deals_where_they_are_few() -> None:
    """6 of 10: 210 deals, none of them drawn; of 8 of 24 some are."""
    rng = np.random.default_rng(1)
    search, control = rng.random(6), rng.random(4)
    everything = np.concatenate([search, control])
    best, seen = comparison.expected_best, []
    for chosen in combinations(range(10), 6):
        others = np.delete(everything, chosen)
        seen.append(abs(best(everything[list(chosen)], 4) - best(others, 4)))
    observed = abs(best(search, 4) - best(control, 4))
    expected = np.mean(np.array(seen) >= observed - 1e-12)
    assert {comparison.p_value(search, control, 4, np.random.default_rng(seed)) for seed in range(3)} == {expected}
    drawn = [comparison.p_value(rng.random(16), rng.random(8), 8, np.random.default_rng(seed)) for seed in range(3)]
    assert all(0 < p <= 1 for p in drawn)


def test_one_network_of_each_gives_no_interval_and_no_zero_is_negative() -> None:
    own = [replace(trial, metric=Metric("score of mine")) for trial in outcomes([0.5], [0.50001])]
    alone = comparison.compare(own, images=0)
    assert alone is not None
    first, second = comparison.sentences(alone)
    assert first.endswith("(best of 1 of each) and equal epochs (2): 0.5000 against 0.5000.")
    assert second == "Difference +0.0000: too few networks to tell it from noise."
    assert comparison.findings(own[:1], 0)[0].startswith("1 trial: 1 complete")


@pytest.mark.parametrize(("search", "controls", "told"), [(1, 1, False), (2, 2, False), (2, 1, False), (4, 4, True)])
def test_too_few_networks_have_no_verdict_and_no_interval(search: int, controls: int, told: bool) -> None:
    """Of two against two the least p is a third, whatever they score, and an interval beside it says otherwise."""
    found = comparison.compare(outcomes([0.9] * search, [0.1] * controls), images=100)
    assert found is not None
    assert found.too_few != told
    first, second = comparison.sentences(found)
    assert ("[" in first, "[" in second) == (told, told)
    assert second.endswith("the search is ahead." if told else "too few networks to tell it from noise.")


def test_one_control_has_no_interval_where_images_give_none() -> None:
    scored = [replace(trial, metric=Metric("score of mine")) for trial in outcomes(list(np.linspace(0, 1, 12)), [0.4])]
    found = comparison.compare(scored, images=0)
    assert found is not None
    assert re.search(r"\] against 0\.4000\.$", comparison.sentences(found)[0])


def test_intervals_cover_about_what_they_say() -> None:
    """Both sides drawn alike: an honest 90 % interval of the difference leaves 0 out in at most about 10 %."""
    rng, wrong = np.random.default_rng(0), 0
    for repeat in range(20):
        accuracies = rng.binomial(300, np.clip(rng.normal(0.9, 0.03, 16), 0, 1)) / 300
        found = comparison.compare(outcomes(list(accuracies[:8]), list(accuracies[8:])), images=300, seed=repeat)
        assert found is not None
        wrong += not found.noise
    assert wrong <= 5


def test_compares_at_the_epoch_that_all_reached() -> None:
    trials = [outcome(0, "control", 0.9, epochs=8), outcome(1, "search", 0.8, "pruned", epochs=3)]
    found = comparison.compare(trials, images=100)
    assert found is not None
    assert found.epochs == 3
    failed = [*trials, outcome(2, "search", 0.99, "failed", epochs=4)]
    found = comparison.compare(failed, images=100)
    assert found is not None
    assert found.search < 0.8


def test_a_failure_after_one_epoch_shortens_no_comparison() -> None:
    ends = [("complete", 6), ("pruned", 2), ("failed", 1)]
    trials = [outcome(i, "search", 0.5, end, epochs) for i, (end, epochs) in enumerate(ends)]
    assert comparison.common_epochs(trials) == 2


def test_nothing_to_compare() -> None:
    assert comparison.compare([], images=100) is None
    assert comparison.compare([outcome(0, "control", 0.5)], images=100) is None


def test_known_networks_are_told_by_name() -> None:
    trials = [outcome(0, "baseline", 0.6), outcome(1, "control", 0.7), outcome(2, "baseline", 0.5, "pruned")]
    assert comparison.beside_baselines(trials[1:2]) == ""
    trials[0], trials[2] = replace(trials[0], baseline="resnet18"), replace(trials[2], baseline="resnet50")
    known = "Known networks at this budget: resnet18 0.6000 (trial 0), resnet50 0.5000 (trial 2, stopped early: "
    known += "not comparable)."
    assert comparison.beside_baselines(trials) == known, "without an interval no gain is told"
    assert comparison.beside_baselines(trials, 400) == (
        f"{known} The best network, trial 1, is +0.1000 [+0.0445, +0.1546] (90 % interval) from the best of them: "
        "more than the draw of the images explains, though it is the best of 2: train both to be sure."
    )
    assert comparison.beside_baselines(trials, 50).endswith("from the best of them: no reliable difference.")
    trials[1] = outcome(1, "control", 0.6)
    assert comparison.beside_baselines(trials, 400) == f"{known} No network scored better than resnet18."
    assert comparison.compare(trials, images=100) is None


def test_a_known_network_without_an_end_is_told_and_compared_with_nothing() -> None:
    trials = [outcome(0, "baseline", 0.6, "running"), outcome(1, "baseline", 0.0, "failed"), outcome(2, "search", 0.7)]
    trials[1] = replace(trials[1], score=None, curve={}, baseline="resnet50")
    trials[0] = replace(trials[0], baseline="resnet18")
    assert comparison.beside_baselines(trials, 400) == (
        "Known networks at this budget: resnet18 0.6000 (trial 0, still running: not comparable), "
        "resnet50 (trial 1, failed: not comparable)."
    )


def within(a: float, b: float, images: int) -> tuple[float, float]:
    found = comparison.difference_interval(DEFAULT_METRIC, a, b, images)
    assert found
    return found


def test_the_interval_of_a_difference_is_made_of_those_of_both() -> None:
    low, high = within(0.8, 0.6, 400)
    (la, ha), (lb, hb) = (
        DEFAULT_METRIC.scores_within(0.8, 400) or (0, 0),
        DEFAULT_METRIC.scores_within(0.6, 400) or (0, 0),
    )
    assert low == pytest.approx(0.2 - np.sqrt((0.8 - la) ** 2 + (hb - 0.6) ** 2))
    assert high == pytest.approx(0.2 + np.sqrt((ha - 0.8) ** 2 + (0.6 - lb) ** 2))
    assert within(0.6, 0.8, 400) == pytest.approx((-high, -low))
    assert within(1.0, 1.0, 300)[0] < 0 < within(1.0, 1.0, 300)[1]
    assert within(0.3250 + 0.0175, 0.3250, 400)[0] < 0, "7 images of 400 are noise"


def test_the_interval_of_a_difference_covers_what_it_says_also_on_the_same_images() -> None:
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.8):
        missed = 0
        for _ in range(2000):
            hard = rng.random(300)
            own = [np.where(rng.random(300) < shared, hard, rng.random(300)) for _ in range(2)]
            a, b = float(np.mean(own[0] < 0.70)), float(np.mean(own[1] < 0.65))
            low, high = within(a, b, 300)
            missed += not low <= 0.05 <= high
        assert missed / 2000 < 0.115


def test_sentences_say_once_what_scores_are_worth() -> None:
    trials = [outcome(n, "search", 0.5 + n / 100) for n in range(37)]
    assert comparison.meaning(trials) == (
        "Scores after 2 brief epochs rank networks; they are not the accuracy of full training, and the best of 37 "
        "scores is an optimistic estimate: nas.train --top 3 trains the best in full."
    )
    assert comparison.meaning([]) == ""
    assert comparison.meaning([outcome(0, "search", 0.5, epochs=1)]).startswith(
        "Scores after 1 brief epoch rank networks"
    )
    assert "best of" not in comparison.meaning(trials[:1])
    assert comparison.meaning(trials) in comparison.findings(trials, 400)


def test_scores_no_better_than_chance_are_said_at_once() -> None:
    trials = [outcome(0, "search", 0.12), outcome(1, "control", 0.09), outcome(2, "search", 0.10, "failed")]
    said = "No network is shown to be better than always answering the commonest class, which is right for 0.1000"
    for lines in (comparison.findings(trials, 100, chance=0.1), comparison.conclusion(trials, 100, None, 0.1)):
        assert sum(line.startswith(said) for line in lines) == 1
    assert said not in " ".join(comparison.findings(trials, 100))  # of runs that did not keep it
    assert comparison.at_chance([*trials, outcome(3, "search", 0.4)], 100, None, 0.1) == ""
    other = [replace(trial, metric=Metric("f1_macro")) for trial in trials]
    assert comparison.at_chance(other, 100, None, 0.1) == ""  # whose scores have no interval
    assert comparison.at_chance(other, 100, None, 0.12).startswith(
        "No network is shown to be better than always answering the same, whose f1 macro is 0.1200: "
    )
    less = [replace(trial, metric=Metric("loss", "minimize")) for trial in trials]
    assert comparison.at_chance(less, 100, None, 0.2) == ""
    assert comparison.at_chance(less, 100, None, 0.05)


def test_the_luckiest_of_many_scores_is_not_taken_for_better_than_chance() -> None:
    lucky = outcome(0, "search", 0.17)  # of 100 images, where chance is .1: alone within [.117, .240]
    assert comparison.at_chance([lucky], 100, None, 0.1) == ""
    many = [lucky, *(outcome(n, "control", 0.1) for n in range(1, 24))]
    assert comparison.at_chance(many, 100, None, 0.1)
    assert comparison.at_chance([*many, outcome(24, "search", 0.3)], 100, None, 0.1) == ""


def test_after_finals_the_named_network_is_compared_with_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [outcome(0, "search", 0.9), outcome(1, "control", 0.5)]
    for score, said in ((0.475, True), (0.7, False)):
        measured = Duel(trials[0], None, score, None, None, None, rounds=2, epochs=3, images=120)
        monkeypatch.setattr(comparison, "duel", lambda finals, found=measured: found)
        found = comparison.at_chance(trials, 60, object(), 0.5)  # type: ignore[arg-type]
        assert bool(found) == said


def test_which_of_equal_networks_is_named_is_said() -> None:
    first, second, third = (outcome(n, "search", 0.5) for n in range(3))
    assert comparison.equals([first]) == ""
    said = "1 other network scores the same as trial 0, which is named as it has the lowest number of these."
    assert comparison.equals([first, second]) == said
    better = replace(third, loss=0.4)
    said = "2 other networks score the same as trial 2, which is named as it has the lowest validation loss of these."
    assert comparison.equals([first, second, better]) == said
    assert said in comparison.conclusion([first, second, better], 100, None)
    dear, cheap = replace(better, minimized={"params": 2.0}), replace(first, minimized={"params": 1.0})
    said = "1 other network scores the same as trial 0, which is named as it has the lowest params of these."
    assert comparison.equals([dear, cheap]) == said


def test_the_comparison_is_read_once() -> None:
    found = comparison.compare(outcomes([0.90, 0.91, 0.92, 0.93], [0.50, 0.55, 0.52]), images=1000)
    assert found is not None
    assert comparison.sentences(found)[0].startswith(
        "Search against random networks, at equal numbers of trials (best of 3 of each) and equal epochs (2): 0.92"
    )
    assert " against 0.5" in comparison.sentences(found)[0]


def test_failures_alone_are_no_comparison() -> None:
    failed = [outcome(0, "search", 0.0, "failed"), outcome(1, "control", 0.0, "failed")]
    assert comparison.compare(failed, images=100) is None


def test_wilson_interval() -> None:
    low, high = DEFAULT_METRIC.scores_within(1.0, 287) or (0, 0)
    assert 0.98 < low < 1.0
    assert high == pytest.approx(1.0)


def test_csv_has_every_trial(tmp_path: Path) -> None:
    tables.write_csv([outcome(0, "control", 0.5), outcome(1, "search", 0.7, "pruned")], tmp_path)
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["outcome"].tolist() == ["complete", "pruned"]
    assert table["stage1.block"].tolist() == ["mbconv", "mbconv"]
    assert table["network"][0] == "n, with a comma"
    tables.write_csv([], tmp_path)
    assert "accuracy" in (tmp_path / "trials.csv").read_text()


def test_no_text_of_a_csv_is_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    """A study of somebody else's may say anything."""
    hostile = '=HYPERLINK("http://evil.example";"open")'
    trials = [replace(outcome(0, "search", -0.5), network=hostile, error="+1", notes={"@note": "-1", "n": -1})]
    tables.write_csv(trials, tmp_path)
    table = pd.read_csv(tmp_path / "trials.csv")
    assert [*table["network"], *table["error"], *table["'@note"]] == [f"'{hostile}", "'+1", "'-1"]
    assert (table["accuracy"][0], table["n"][0]) == (-0.5, -1)


def test_the_best_is_the_same_everywhere(tmp_path: Path) -> None:
    """Of equal accuracy the lower loss, an unknown loss last, then the lower number: in study, table and outcomes."""
    told = [(0.5, 0.1), (0.9, None), (0.9, 0.5), (0.9, math.nan), (0.9, 0.5), (0.9, 0.4), (0.9, None)]
    with opened(tmp_path) as study:
        for accuracy, loss in told:
            trial = study.ask()
            if loss is not None:
                study.report(trial, Result(epoch=1, score=accuracy, loss=loss))
            study.tell(trial, accuracy)
        order = [5, 2, 4, 1, 3, 6, 0]
        assert [trial.number for trial in study.ranked] == order
        assert [trial.number for trial in rank(study.records)] == order
        folder.write_results(study, tmp_path)
        assert Arch.load(tmp_path / "best.yaml") == study.best.arch


def test_there_is_one_front(tmp_path: Path) -> None:
    """Of networks that are equal in accuracy and cost the best, whether the study or a report is asked."""
    with opened(tmp_path, minimize=["params"]) as study:
        for loss in (0.5, 0.3, 0.4):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=0.9, loss=loss))
            study.tell(trial, 0.9)
        trials = [replace(trial, minimized={"params": 7}) for trial in study.records]
        assert [trial.number for trial in comparison.front(trials)] == [1]
        assert [trial.number for trial in objectives.unbeaten(reversed(trials), lambda trial: [1.0])] == [1]
        assert [t.number for t in study.front()] == [t.number for t in comparison.front(study.records)]


def test_parquet_keeps_numbers_and_makes_text_of_what_is_mixed(tmp_path: Path) -> None:
    trials = [outcome(0, "control", 0.5), outcome(1, "search", 0.7)]
    trials[0].point["stage1.se"], trials[1].point["stage1.se"] = 0, "none"
    tables.write_parquet(trials, tmp_path)
    table = pd.read_parquet(tmp_path / "trials.parquet")
    assert table["accuracy"].tolist() == [0.5, 0.7]
    assert table["stage1.se"].tolist() == ["0", "none"]
    tables.write_parquet([], tmp_path)
    assert pd.read_parquet(tmp_path / "trials.parquet").empty


def test_notes_of_any_kind_are_cells_of_tables(tmp_path: Path) -> None:
    """Empty mappings, lists of several types and large numbers were a traceback of Parquet's."""
    notes = {"empty": {}, "several": [1, "a", None], "large": 2**70, "nested": {"a": [1]}, "plain": 3}
    trials = [replace(outcome(number, "search", 0.5), notes=notes) for number in range(2)]
    tables.write_parquet(trials, tmp_path)
    row = pd.read_parquet(tmp_path / "trials.parquet").iloc[1]
    assert [row["empty"], row["several"], row["nested"]] == ["{}", '[1, "a", null]', '{"a": [1]}']
    assert (row["large"], row["plain"]) == (str(2**70), 3)
    tables.write_csv(trials, tmp_path)
    assert pd.read_csv(tmp_path / "trials.csv")["several"][0] == '[1, "a", null]'


def test_networks_over_a_latency_budget_when_measured_are_named() -> None:
    trials = [record(number, alone_ms=ms) for number, ms in ((0, 8.44), (1, 7.9), (2, None), (3, 9.0))]
    budget = Budget.parse("3MFLOPs,8ms")
    assert comparison.over_when_measured(trials, budget) == {0: 8.44, 3: 9.0}
    assert (
        comparison.over_sentence(trials, budget)
        == f"* over the budget of {budget} when measured: trial 0 (8.44 ms), trial 3 (9 ms)"
    )
    assert comparison.over_sentence(trials, Budget.parse("3MFLOPs")) == ""
    assert comparison.over_sentence(trials[1:3], budget) == ""


def test_networks_that_take_far_less_than_was_predicted_are_named() -> None:
    """A budget of 8 ms was met with 2, where layer times were of another resolution."""
    cost = record(0).cost
    trials = [
        record(number, alone_ms=ms, cost=replace(cost, latency_ms=8.0))
        for number, ms in ((0, 2.0), (1, 6.5), (2, None))
    ]
    said = comparison.under_sentence(trials, Budget.parse("3MFLOPs,8ms"))
    assert said.startswith("measured far below what was predicted: trial 0 (2 of 8 ms). Larger networks may fit in ")
    assert comparison.under_sentence(trials, Budget.parse("3MFLOPs")) == ""
    assert comparison.under_sentence(trials[1:], Budget.parse("8ms")) == ""


def test_every_column_of_the_table_is_explained() -> None:
    table = (
        (ROOT / "nas" / "README.md")
        .read_text(encoding="utf-8")
        .partition("| columns of `trials.csv`")[2]
        .partition("\n\n")[0]
    )
    assert [name for name in ("trial", "outcome", *tables.COLUMNS) if f"`{name}`" not in table] == []


@pytest.mark.parametrize("name", ["trial", "outcome", "accuracy", "seconds", "MFLOPs", "resolution"])
def test_a_cost_named_like_a_column_has_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = record(3, cost=replace(record(0).cost, own=((name, 7.5),)), point={"resolution": 96})
    table = tables.frame([one])
    assert table.columns.is_unique
    assert (table[f"{name} (cost)"][0], table["trial"][0], table["accuracy"][0]) == (7.5, 3, 0.5)
    assert table["resolution"][0] == 96
    monkeypatch.setattr(page, "amount", lambda spent, name: f"{spent}J")
    cells = page.row(one, 100)
    assert (cells["trial"], cells[f"{name} (cost)"]) == ("3", "7.5J")
    assert cells["MFLOPs"] == page.million(one.cost.macs)
