"""What a metric is, and that everything that people read follows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nas.analysis import comparison, tables
from nas.metric import DEFAULT_METRIC, Metric
from nas.study.study import Study
from nas.trial import Result, TrialRecord, rank
from nas.views import figures
from nas.views.page import row
from searchspace import Budget, InputError, Space
from tests.searchspace.space.test_space import SMALL
from tests.support.records import record

ERROR = Metric("error", "minimize")
F1 = Metric("f1_macro")


def test_a_metric_is_what_its_text_says() -> None:
    assert Metric.of("accuracy") == DEFAULT_METRIC == Metric.of(DEFAULT_METRIC)
    assert Metric.of("error:minimize") == ERROR
    assert str(ERROR) == "error:minimize"
    assert Metric.of(str(ERROR)) == ERROR
    assert Metric.of("top_k_accuracy").is_share
    assert not Metric.of("accuracy:minimize").is_share
    for wrong in ("", ":minimize", "error:least", "error:", "a\nb"):
        with pytest.raises(InputError, match="metric"):
            Metric.of(wrong)


def test_an_interval_is_a_binomial_one_only_of_a_share_of_images() -> None:
    low, high = DEFAULT_METRIC.scores_within(0.8, 400) or (1, 0)
    assert 0.76 < low < 0.8 < high < 0.84
    assert F1.scores_within(0.8, 400) is None
    assert DEFAULT_METRIC.scores_within(0.8, 0) is None
    assert Metric("hits", interval="binomial").scores_within(0.8, 400) == (low, high)
    assert F1.standard_error(0.8, 400) == 0 < DEFAULT_METRIC.standard_error(0.8, 400)


def errors() -> list[TrialRecord]:
    """A search that is better than its control, where less is better; one trial failed."""
    scores = [0.50, 0.55, 0.52, 0.10, 0.09, 0.11]
    roles = ["control"] * 3 + ["search"] * 3
    made = [record(n, score=s, role=r, metric=ERROR) for n, (s, r) in enumerate(zip(scores, roles, strict=True))]
    return [*made, record(6, "failed", None, metric=ERROR)]


def test_where_less_is_better_the_least_is_the_best() -> None:
    assert [trial.number for trial in rank(errors())] == [4, 3, 5, 0, 2, 1]
    assert tables.frame(errors())["score"].tolist()[:6] == [0.50, 0.55, 0.52, 0.10, 0.09, 0.11]
    cheaper = replace(errors()[0], minimized={"macs": 1.0})
    dearer = replace(errors()[4], minimized={"macs": 2.0})
    assert [trial.number for trial in comparison.front([cheaper, dearer])] == [0, 4]
    assert [trial.number for trial in comparison.front([replace(cheaper, score=0.01), dearer])] == [0]


def test_a_failure_is_the_worst_and_not_0_where_0_is_good() -> None:
    found = comparison.compare(errors(), images=100)
    assert found is not None
    assert found.difference > 0, "the search is ahead"
    first, second = comparison.sentences(found)
    assert ": 0.0" in first
    assert " against 0.5" in first
    assert "Difference -0." in second
    low, high = found.metric.natural_interval(*found.search_interval)
    assert 0 < low <= high
    assert comparison.scores(errors(), "search", 1).tolist() == [-0.10, -0.09, -0.11, -0.55]


def test_sentences_and_pictures_name_the_metric_and_no_other() -> None:
    trials = [replace(trial, metric=F1) for trial in errors()[:6]]
    trials[0] = replace(trials[0], role="baseline", baseline="resnet18")
    said = " ".join(comparison.findings(trials, 400))
    assert "validation f1 macro 0.5500" in said
    assert "accuracy" not in said
    assert "f1 macro has no interval here" in said
    drawn = figures.svg(figures.by_trial(trials)) + figures.svg(figures.learning_curves(trials))
    assert "validation f1 macro" in drawn
    assert "accuracy" not in drawn
    assert "f1 macro" in row(trials[0], 400)
    lines = figures.by_trial(errors()).axes[0].lines[0].get_ydata()
    assert [round(float(y), 2) for y in lines] == [0.50, 0.50, 0.50, 0.10, 0.09, 0.09]  # type: ignore[union-attr]


def test_a_study_keeps_scores_as_they_are_told_and_its_best_is_the_least(tmp_path: Path) -> None:
    space, budget = Space(SMALL), Budget.parse("100GFLOPs")
    with Study.open(tmp_path, space, budget, band=0.0, controls=2, metric="error:minimize") as study:
        for score in (3.5, 1.5, 2.5):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=score + 1))
            study.tell(trial, score)
        assert study.best.number == 1
        assert [(t.score, t.curve) for t in study.records] == [(3.5, {1: 4.5}), (1.5, {1: 2.5}), (2.5, {1: 3.5})]
        assert study.optuna.best_trial.number == 1
        assert study.optuna.metric_names == ["neg. validation error"]
    assert Study.read(tmp_path).metric == ERROR
    with pytest.raises(InputError, match="holds another search"):
        Study.open(tmp_path, space, budget, band=0.0, controls=2)
