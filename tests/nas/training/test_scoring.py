"""Metrics of scikit-learn's, of what a network answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score, top_k_accuracy_score

from nas.metric import Metric
from nas.training import scoring
from searchspace import InputError

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 4
ANSWERS = RNG.dirichlet(np.ones(4), 60)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", float((ANSWERS.argmax(1) == LABELS).mean())),
        ("balanced_accuracy", balanced_accuracy_score(LABELS, ANSWERS.argmax(1))),
        ("f1_macro", f1_score(LABELS, ANSWERS.argmax(1), average="macro")),
        ("roc_auc_ovr", roc_auc_score(LABELS, ANSWERS, multi_class="ovr")),
        ("top_k_accuracy", top_k_accuracy_score(LABELS, ANSWERS, k=2)),
        ("neg_log_loss", -log_loss(LABELS, ANSWERS)),
    ],
)
def test_scores_are_scikit_learns(name: str, expected: float) -> None:
    assert scoring.score(Metric(name), LABELS, ANSWERS) == pytest.approx(expected)


def test_of_two_classes_too() -> None:
    labels, answers = np.arange(40) % 2, RNG.dirichlet(np.ones(2), 40)
    assert scoring.score(Metric("roc_auc"), labels, answers) == pytest.approx(roc_auc_score(labels, answers[:, 1]))


@pytest.mark.parametrize("name", ["acuracy", "r2", "neg_mean_squared_error", "rand_score", "error:minimize", "loss"])
def test_what_is_no_scorer_of_classifiers_is_refused_with_some_that_are(name: str) -> None:
    with pytest.raises(InputError, match=r"scorers of classifiers is accepted .*accuracy, balanced_accuracy, f1_macro"):
        scoring.check_name(Metric.of(name))


def test_a_scorer_has_its_direction() -> None:
    with pytest.raises(InputError, match="more is better; give f1_macro"):
        scoring.check_name(Metric.of("f1_macro:minimize"))


def test_a_metric_that_these_labels_do_not_take_is_refused_before_any_trial() -> None:
    with pytest.raises(InputError, match=r"metric f1: cannot be computed of these validation images: .*multiclass"):
        scoring.check(Metric("f1"), LABELS, 4)
    with pytest.raises(InputError, match="metric roc_auc_ovr: cannot be computed"):
        scoring.check(Metric("roc_auc_ovr"), np.zeros(10, np.int64), 4)
    scoring.check(Metric("f1"), np.arange(10) % 2, 2)


def test_a_metric_that_is_the_same_whatever_is_answered_is_refused() -> None:
    labels = np.array([0, 1] * 20)
    with pytest.raises(
        InputError, match=r"top_k_accuracy: of these 40 validation images in 2 classes it is 1 whatever"
    ):
        scoring.check(Metric("top_k_accuracy"), labels, 2)
    scoring.check(Metric("top_k_accuracy"), np.array([0, 1, 2] * 20), 3)
    scoring.check(Metric("accuracy"), labels[:2], 2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("accuracy", 0.75), ("balanced_accuracy", 0.5), ("f1_macro", 3 / 7), ("roc_auc", 0.5), ("matthews_corrcoef", 0.0)],
)
def test_what_always_answering_the_same_scores(name: str, expected: float) -> None:
    assert scoring.chance(Metric(name), np.array([0] * 30 + [1] * 10), 2) == pytest.approx(expected)


def test_the_shares_of_the_classes_have_the_loss_of_their_entropy() -> None:
    found = scoring.chance(Metric("neg_log_loss"), np.array([0] * 30 + [1] * 10), 2)
    assert found == pytest.approx(0.75 * np.log(0.75) + 0.25 * np.log(0.25))


SCARCE = np.array([0] * 10 + [1] * 3)  # of three classes, the last of which has no image
GUESSES = RNG.dirichlet(np.ones(3), 13)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("f1_macro", f1_score(SCARCE, GUESSES.argmax(1), average="macro", labels=range(3), zero_division=0)),
        ("neg_log_loss", -log_loss(SCARCE, GUESSES, labels=range(3))),
        ("top_k_accuracy", top_k_accuracy_score(SCARCE, GUESSES, k=2, labels=range(3))),
        ("accuracy", float((GUESSES.argmax(1) == SCARCE).mean())),
        ("balanced_accuracy", float(np.mean([(GUESSES.argmax(1) == SCARCE)[c == SCARCE].mean() for c in (0, 1)]))),
    ],
)
def test_a_class_without_images_does_not_stand_in_the_way(name: str, expected: float) -> None:
    scoring.check(Metric(name), SCARCE, 3)
    assert scoring.score(Metric(name), SCARCE, GUESSES) == pytest.approx(expected)


def test_a_mean_over_classes_is_over_as_many_whatever_is_answered() -> None:
    """Of 13 images one is answered wrong: which class it is taken for is no matter, one that has no image included."""
    answers = np.eye(3)[SCARCE]
    found = set()
    for wrong in (1, 2):
        answers[0] = np.eye(3)[wrong]
        found.add(round(scoring.score(Metric("recall_macro"), SCARCE, answers), 9))
    assert found == {round((0.9 + 1 + 0) / 3, 9)}


def test_what_a_class_without_images_does_not_allow_says_so() -> None:
    with pytest.raises(InputError, match=r"roc_auc_ovr: cannot be computed .*: 1 of 3 classes has none among them"):
        scoring.check(Metric("roc_auc_ovr"), SCARCE, 3)
