"""Any metric of a classifier, computed by scikit-learn from what a network answers."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.metric import EXAMPLES, Metric
from searchspace.errors import InputError

TRIED = 20  # random answers, of which two have to score differently
Probabilities = NDArray[np.float64]
# Of scikit-learn's scorers those of classifiers; the others are of regression and of clusters, and class numbers are
# neither.
CLASSIFIERS = (
    *("accuracy", "balanced_accuracy", "top_k_accuracy", "average_precision", "f1", "precision", "recall", "jaccard"),
    *("roc_auc", "matthews_corrcoef", "neg_log_loss", "neg_brier_score", "d2_log_loss_score", "d2_brier_score"),
    *("positive_likelihood_ratio", "neg_negative_likelihood_ratio"),
)


def score(metric: Metric, labels: NDArray[np.int64], probabilities: Probabilities) -> float:
    """The metric of answers (N, classes), each row a distribution; `ValueError` where it cannot be computed of them.

    Where a class has no image, metrics that can be told of all classes are: else a mean over classes would be over one
    more as soon as a network answers it.
    """
    from sklearn import config_context
    from sklearn.metrics import get_scorer

    scorer, classes = get_scorer(metric.name), np.arange(probabilities.shape[1])
    given = _Answers(len(classes)), probabilities, labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are never answered, which count as 0
        if len(np.unique(labels)) == len(classes):
            found = float(scorer(*given))
        else:
            try:
                with config_context(enable_metadata_routing=True):  # without it no more is told to a scorer
                    found = float(scorer(*given, labels=classes))
            except TypeError:  # it takes none
                found = float(scorer(*given))
    if not math.isfinite(found):
        raise ValueError(f"{metric.name} is {found} of these labels")
    return found


def check(metric: Metric, labels: NDArray[np.int64], num_classes: int) -> None:
    """`InputError` for a metric that cannot be computed of these labels, or has the same score whatever is answered."""
    rng, found = np.random.default_rng(0), set()
    try:
        for _ in range(TRIED):
            found.add(score(metric, labels, rng.dirichlet(np.ones(num_classes), len(labels))))
            if len(found) > 1:
                return
    except Exception as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)[:160]
        if lacking := num_classes - len(np.unique(labels)):
            said = f"{lacking} of {num_classes} classes {'has' if lacking == 1 else 'have'} none among them ({said})"
        raise InputError(f"metric {metric.name}: cannot be computed of these validation images: {said}") from None
    raise InputError(
        f"metric {metric.name}: of these {len(labels):,} validation images in {num_classes} classes it is "
        f"{found.pop():g} whatever is answered"
    )


def chance(metric: Metric, labels: NDArray[np.int64], num_classes: int) -> float | None:
    """What always answering the same would score, the classes in their shares; None where it has no such score."""
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    try:
        return score(metric, labels, np.tile(shares, (len(labels), 1)))
    except ValueError:
        return None


def check_name(metric: Metric) -> None:
    """`InputError` for a name that is none of scikit-learn's scorers."""
    from sklearn.metrics import get_scorer_names

    if metric.name not in get_scorer_names() or not metric.name.startswith(CLASSIFIERS):
        raise InputError(
            f"metric {metric.name!r}: the name of one of scikit-learn's scorers of classifiers is accepted "
            f"({', '.join(EXAMPLES)}, …); other names are for a training of one's own (--evaluate), as NAME or "
            "NAME:minimize"
        )
    if metric.sign < 0:
        raise InputError(f"metric {metric}: of scikit-learn's scorers more is better; give {metric.name}")


class _Answers:
    """A fitted classifier, as far as a scorer asks: its features are the probabilities that it answers with."""

    _estimator_type = "classifier"

    def __init__(self, num_classes: int) -> None:
        self.classes_ = np.arange(num_classes)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier", target_tags=TargetTags(required=True), classifier_tags=ClassifierTags()
        )

    def fit(self, x: Any, y: Any) -> _Answers:
        return self

    def predict(self, x: Probabilities) -> NDArray[np.int64]:
        return np.asarray(x.argmax(1), np.int64)

    def predict_proba(self, x: Probabilities) -> Probabilities:
        return x
