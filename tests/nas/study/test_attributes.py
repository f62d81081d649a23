"""Values of a wrong type, size or depth in a study are one line that names the trial and the field."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nas.run.run import Run
from nas.study.study import Study
from searchspace import InputError
from tests.nas.study.test_study import advance, opened

WRONG: list[tuple[str, Any]] = [
    *(("macs", "x"), ("macs", -1), ("macs", 10**30), ("macs", 1.5), ("params", None), ("activations", True)),
    *(("role", None), ("role", "evil"), ("role", [1]), ("settled", "a b"), ("settled", [1]), ("baseline", [1])),
    *(("peak_memory_mb", "x"), ("peak_memory_mb", math.nan), ("width_mult", {}), ("digest", 7), ("network", {"x": 1})),
    *(("arch", True), ("arch", {"blocks": 1}), ("predicted_ms", "x"), ("resolutions", [1]), ("resolutions", "96")),
    *(("minimize", [1]), ("minimize", {"macs": 1.0}), ("own_costs", {"x": "y"}), ("own_costs", None)),
    *(("loss", "x"), ("train_loss", [[]]), ("seconds", {}), ("images_per_s", "1"), ("latency_ms", "1")),
    *(("error", 1), ("lost", "yes"), ("final", {"of": 1}), ("final", [1]), ("correct", "x"), ("driver", 1)),
    *(("correct", "0:"), ("correct", "4:abc")),
]
WRONG_OF_THE_STUDY: list[tuple[str, Any]] = [
    *(("measured_ms", [1]), ("measured_ms", {"x": 1.0}), ("measured_ms", {"0": "1"}), ("measured_ms", {"0": None})),
    *(("validation_images", "x"), ("validation_images", -5), ("validation_images", None), ("validation_images", 1.5)),
    *(("images", 7), ("begun", [1]), ("begun", {"controls": "x"}), ("identity", [1]), ("metric", {"name": 1})),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("attributes") / "run"
    with opened(run) as study:
        advance(study, 3)
        study.validation_images = 100
        study.alone_ms = {0: 1.0}
        study.keep("images", "a fingerprint")
        study.keep("metric", {})
    return run


def changed(base: Path, to: Path, statement: str, *values: Any) -> Path:
    run = Path(shutil.copytree(base, to / "run"))
    with closing(sqlite3.connect(run / "study.db")) as database:
        assert database.execute(statement, values).rowcount > 0
        database.commit()
    return run


def refused(run: Path, *says: str) -> None:
    for look in (Run.open, Study.read, opened):
        with pytest.raises(InputError) as error:
            look(run)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 500
        assert all(word in str(error.value) for word in says), error.value


@pytest.mark.parametrize(("name", "wrong"), WRONG, ids=[f"{name}={wrong!r:.20}" for name, wrong in WRONG])
def test_a_trial_s(name: str, wrong: Any, base: Path, tmp_path: Path) -> None:
    insert = "insert or replace into trial_user_attributes (trial_id, key, value_json) values (2, ?, ?)"
    with closing(sqlite3.connect(base / "study.db")) as database:
        kept = "select count(*) from trial_user_attributes where key = ?"
        assert database.execute(kept, (name,)).fetchone()[0] or name in (
            *("own_costs", "minimize", "resolutions", "final", "correct", "driver", "error", "lost"),
        )
    refused(changed(base, tmp_path, insert, name, json.dumps(wrong)), "trial 1", name)


@pytest.mark.parametrize(
    ("name", "wrong"), WRONG_OF_THE_STUDY, ids=[f"{name}={wrong!r:.20}" for name, wrong in WRONG_OF_THE_STUDY]
)
def test_the_study_s(name: str, wrong: Any, base: Path, tmp_path: Path) -> None:
    update = "update study_user_attributes set value_json = ? where key = ?"
    refused(changed(base, tmp_path, update, json.dumps(wrong), name), name)


@pytest.mark.parametrize("depth", [5_000, 100_000])
def test_what_is_nested_too_deep(depth: int, base: Path, tmp_path: Path) -> None:
    update = "update trial_user_attributes set value_json = ? where key = 'network'"
    refused(changed(base, tmp_path, update, "[" * depth + "]" * depth))


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("update trial_values set value = 1e300 where trial_id = 2", "from 0 to 1"),
        ("update trial_values set value_type = 'INF_POS', value = null where trial_id = 2", "a score of inf"),
        ("update trial_intermediate_values set step = -5 where trial_id = 2", "an epoch that there is not"),
        ("update trial_intermediate_values set intermediate_value = -1 where trial_id = 2", "from 0 to 1"),
    ],
)
def test_a_score_that_there_is_not(statement: str, says: str, base: Path, tmp_path: Path) -> None:
    refused(changed(base, tmp_path, statement), "trial 1", says)


@pytest.mark.parametrize("answers", ["", "b24875", "20:b24875"])
def test_the_answers_of_finals_are_read_as_they_were_kept_at_any_time(answers: str, base: Path, tmp_path: Path) -> None:
    """At first without the number of images."""
    insert = "insert or replace into trial_user_attributes (trial_id, key, value_json) values (2, 'correct', ?)"
    assert Run.open(changed(base, tmp_path, insert, json.dumps(answers))).trials[1].correct == answers


def test_what_a_caller_tells_can_be_read_again(base: Path, tmp_path: Path) -> None:
    """Also a loss that is no number; what is no number at all is refused before it is kept."""
    run = Path(shutil.copytree(base, tmp_path / "run"))
    with opened(run) as study:
        trial = study.ask()
        with pytest.raises(InputError, match="loss: a number is accepted, not 'x'"):
            study.tell(trial, 0.5, loss="x")
        study.tell(trial, 0.5, loss=math.nan, seconds=1, mine=[{"any": None}])
    assert Run.open(run).trials[3].notes == {"mine": [{"any": None}]}
