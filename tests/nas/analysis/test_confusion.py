"""Which classes are taken for which: counts, what is said of them, the file, the drawing and the card."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from nas.analysis import confusion
from nas.analysis.confusion import Confusion
from nas.bundle import card
from nas.bundle.confusion_matrix import matrix
from nas.views import page
from searchspace import Arch, InputError, zoo

HOSTILE = (
    "<script>alert(1)</script>",
    r"$\frac{",
    "a|b_*c*",
    "nul\x00 \x1b[31m",
    "日本",
    "x" * 300,
    "",
    "../..",
    "\"&'",
)


def drawn(classes: int, images: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, images)
    return labels, np.where(rng.random(images) < 0.6, labels, rng.integers(0, classes, images))


def made(classes: int, images: int = 400) -> Confusion:
    names = tuple(f"class {c}" for c in range(classes))
    return Confusion(names, (), confusion.count(*drawn(classes, images)))


def test_counts_accuracies_and_precisions_are_scikit_learns() -> None:
    labels, answers = drawn(7)
    found = made(7)
    table = np.zeros((7, 7), int)
    for truth, answer, n in found.counts:
        table[truth, answer] = n
    assert (table == confusion_matrix(labels, answers)).all()
    scores = confusion.scores(found)
    assert [one.recall for one in scores] == pytest.approx(recall_score(labels, answers, average=None))
    assert [one.precision for one in scores] == pytest.approx(precision_score(labels, answers, average=None))
    for one in scores:
        mistakes = np.delete(table[scores.index(one)], scores.index(one))
        assert one.times == mistakes.max()
        assert one.interval[0] < one.recall < one.interval[1]


def test_the_most_confused_classes_are_said() -> None:
    counts = ((0, 0, 8), (0, 1, 2), (1, 1, 10), (2, 0, 9), (2, 2, 1))
    found = Confusion(("cat", "dog", "fox"), counts)
    assert confusion.pairs(found) == [("fox", "cat", 9, 10), ("cat", "dog", 2, 10)]
    said = " ".join(confusion.sentences(found))
    assert "Of 30 validation images of 3 classes 19 were recognised (63.3%)." in said
    assert "from 10.0% (fox, 10 images) to 100.0% (dog, 10 images)" in said
    assert "Most confused: fox taken for cat (9 of 10); cat taken for dog (2 of 10)." in said
    assert confusion.sentences(Confusion(("a", "b"), ((0, 0, 3), (1, 1, 4)))) == [
        "Of 7 validation images of 2 classes 7 were recognised (100.0%)."
    ]


def test_a_network_that_is_not_better_than_the_commonest_class_is_called_so() -> None:
    classes = ("cat", "fish")
    said = confusion.compare_with_chance(Confusion(classes, ((0, 1, 19), (1, 1, 16))))
    assert said == (
        "Always answering 'cat' would be right for 0.5429 of the validation images: the network is not shown to be "
        "better than that."
    )
    assert confusion.compare_with_chance(Confusion(classes, ((0, 0, 18), (0, 1, 1), (1, 1, 16)))) == ""
    assert "0.5429" in confusion.compare_with_chance(Confusion(classes, ((0, 0, 11), (0, 1, 8), (1, 0, 5), (1, 1, 11))))


def test_test_images_are_preferred_and_classes_without_images_are_left_out() -> None:
    found = Confusion(("a", "b", "c"), ((0, 0, 5), (2, 2, 5)), ((0, 1, 4),))
    assert (found.of, [one.name for one in confusion.scores(found)]) == ("test", ["a"])
    assert confusion.rows(found)[0]["most often taken for"] == "b (4)"


def test_of_many_classes_only_the_worst_are_listed_and_the_most_confused_drawn() -> None:
    found = made(200, 20_000)
    listed = confusion.classes_to_list(found)
    assert len(listed) == confusion.FEW
    assert max(one.recall for one in listed) <= sorted(o.recall for o in confusion.scores(found))[confusion.FEW]
    assert len(confusion.classes_to_show(found)) == confusion.FEW
    assert "Of 200 classes the table has the 25 that are recognised worst" in confusion.meaning(found)
    assert "200" not in confusion.meaning(made(50))
    assert len(matrix(found)) < 150_000
    assert len(confusion.classes_to_list(made(50, 4000))) == 50


def test_a_perfect_network_of_many_classes_is_drawn() -> None:
    """It had no mistake to draw, an error at the end of its training."""
    names = tuple(f"class {c}" for c in range(60))
    found = Confusion(names, tuple((c, c, 5) for c in range(60)))
    assert confusion.classes_to_show(found) == list(range(confusion.FEW))
    assert matrix(found).count("<g>") == confusion.FEW


def test_the_file_reads_back_and_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    found = replace(made(4), classes=("a", "é", "日本", "<b>"))
    (tmp_path / confusion.FILE).write_text(confusion.text(found), encoding="utf-8")
    assert confusion.load(tmp_path) == found
    assert confusion.load(tmp_path / "elsewhere") is None
    for text in ("", "[]", "{", '{"classes": ["a"], "validation": [[0, 1, 3]]}', "[" * 100_000):
        (tmp_path / confusion.FILE).write_text(text)
        with pytest.raises(InputError, match=r"confusion\.json"):
            confusion.load(tmp_path)
    (tmp_path / confusion.FILE).write_text(json.dumps({"classes": ["a"], "validation": [[0, 0, -1]]}))
    with pytest.raises(InputError, match="counts"):
        confusion.load(tmp_path)


def test_hostile_names_are_text_in_the_drawing_the_page_and_the_card() -> None:
    found = Confusion(HOSTILE, confusion.count(*drawn(len(HOSTILE))))
    ElementTree.fromstring(matrix(found, standalone=True))  # XML, so that any program draws it
    shown = page.classes(found)
    assert "<script>" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    arch: Arch = zoo("mnasnet1_0")
    text = card.text(card.ModelCard("t", arch, arch, confusion=found), onnx=False)
    assert r"\<script\>alert(1)\</script\>" in text
    assert r"a\|b\_\*c\*" in text
    assert "\x1b" not in text
    rows = [line for line in text.split("## By class")[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(HOSTILE)
