"""Random nonsense: flags, spaces, study.db, images. One clear line each, and the run folder stays as it was."""

from __future__ import annotations

import io
import shutil
import sqlite3
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nas import search
from nas.config import DataConfig
from nas.data.datasets import load as load_images
from nas.data.decoding import Form, _chunk
from nas.run import folder as run_folder
from nas.run import latencies, search_options
from nas.study.records import ranked_trials, trial_of, trial_records
from nas.study.storage import load
from nas.study.study import Study
from nas.trial import Result
from searchspace import Budget, InputError, Space
from tests.nas.data.test_datasets import encoded, parquet, picture
from tests.nas.study.test_study import SPACE, score

BUDGET = Budget.parse("100MFLOPs")
quick = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
FLAGS = sorted(
    flag for action in search_options.parser()._actions for flag in action.option_strings if flag.startswith("--")
)
FLAGS = [
    flag
    for flag in FLAGS
    if flag not in ("--help", "--version", "--run", "--dry-run", "--dataset", "--warm-start", "--storage")
]
WORDS = [
    "100MFLOPs",
    "1ms",
    "rexnet",
    "-1",
    "0",
    "1e9",
    "nan",
    "inf",
    "random",
    "cuda",
    "stage1.depth=1",
    "a=b",
    "se",
    "",
]
VALUES = st.one_of(st.sampled_from(WORDS), st.text(max_size=12), st.integers().map(str), st.floats().map(str))
ARGUMENTS = st.lists(
    st.one_of(st.tuples(st.sampled_from(FLAGS), VALUES), st.tuples(st.sampled_from(FLAGS))), max_size=4
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six instant trials."""
    folder = tmp_path_factory.mktemp("nonsense") / "run"
    arguments = ["--budget", "100MFLOPs", "--space", "rexnet"]
    config = search_options.config_from_args(search_options.parser().parse_args([*arguments]))
    with run_folder.lock_run(folder, replace(config, conduct=search_options.Execution(command="none"))):
        study = Study.open(folder, SPACE, BUDGET, controls=3)
        for _ in range(6):
            trial = study.ask()
            study.report(trial, Result(epoch=1, score=score(trial), loss=1.0))
            study.tell(trial, score(trial))
        study.validation_images = 100
        run_folder.write_results(study, folder)
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(("-shm", "-wal"))}


def read(run: Path) -> None:
    """What report, export and dashboard ask of a study."""
    study = load(run)
    trial_records(study)
    for trial in ranked_trials(study):
        trial_of(trial)


def refused(call: Any, *arguments: Any) -> str | None:
    """The line of a refusal; None where there was none. Anything else that is raised is the test's failure."""
    try:
        call(*arguments)
    except InputError as error:
        said = str(error)
        assert said
        assert "\n" not in said
        return said
    except SystemExit as ended:
        return {2: "argparse"}[ended.code]  # type: ignore[index]
    return None


@quick
@given(ARGUMENTS)
def test_flags(run: Path, arguments: list[tuple[str, ...]]) -> None:
    """What is accepted would go on to the images, which end it here."""
    before = contents(run)
    words = [word for pair in arguments for word in pair]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nas.run.search.preflight", lambda *_, **__: (_ for _ in ()).throw(InputError("accepted")))
        patched.setattr(latencies, "with_latencies", lambda config, *_: config.space)
        given_ = ["--budget", "100MFLOPs", "--space", "rexnet", "--dry-run", "--run", str(run), *words]
        said = refused(search.main, given_)
    assert said is not None or "--quiet" in words
    assert contents(run) == before


SPACE_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 2000), st.floats(allow_nan=True), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["choice", "fit", "depth", "kernel", "block"]), inner, max_size=2),
    ),
    max_leaves=6,
)


@quick
@given(st.sampled_from(["stem", "schedule", "defaults", "stages", "head", "width_mult", "known", "x"]), SPACE_VALUES)
def test_spaces(tmp_path_factory: pytest.TempPathFactory, field: str, wrong: Any) -> None:
    path = tmp_path_factory.mktemp("spaces") / "space.yaml"
    path.write_text(yaml.safe_dump({**SPACE.data, field: wrong}))
    said = refused(Space.load, str(path))
    assert said is None or said.startswith(str(path)) or "space.yaml" in said


@settings(quick, max_examples=15)
@given(st.data())
def test_a_damaged_study(run: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    copy = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("*-shm", "*-wal"))
    path = copy / "study.db"
    whole = path.read_bytes()
    start = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=4000))
    cut = data.draw(st.booleans())
    damaged = whole[:start] if cut else whole[:start] + noise + whole[start + len(noise) :]
    path.write_bytes(damaged)
    before = {name: there for name, there in contents(copy).items() if name != "study.db" or not damaged}
    said = refused(read, copy)
    if said is not None:
        assert before.items() <= contents(copy).items()
        assert "study.db" in said or "trial" in said
    refused(lambda: Study.open(copy, SPACE, BUDGET, controls=3))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("delete from trial_user_attributes where key = 'arch'", "has no arch"),
        ("update trial_user_attributes set value_json = '7' where key = 'arch'", "arch: a valid string, not 7"),
        ("update trial_user_attributes set value_json = '{' where key = 'role'", "damaged"),
        ("update trial_params set distribution_json = '{}'", "damaged"),
        ("drop table trials", "damaged"),
        ("delete from studies", "0 of the 6 ended trials of trials.csv"),
    ],
)
def test_a_study_with_something_else_in_it(run: Path, tmp_path: Path, query: str, says: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("*-shm", "*-wal"))
    with sqlite3.connect(copy / "study.db") as database:
        database.execute(query)
    said = refused(read, copy)
    assert said is not None
    assert says in said


@quick
@given(st.data(), st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
def test_damaged_images(data: st.DataObject, kind: str) -> None:
    file = io.BytesIO()
    picture(0).convert("RGB").save(file, kind)
    whole = file.getvalue()
    start = data.draw(st.integers(0, len(whole)))
    noise = data.draw(st.binary(max_size=30))
    damaged = whole[:start] + noise + whole[start + len(noise) :][: data.draw(st.integers(0, 5000))]
    images, remarks = _chunk(Form(3, 16), (0, [damaged]))
    assert images.shape == (1, 3, 16, 16)
    assert all(said.startswith("image 0: ") for said in remarks.bad.values())


def test_images_of_no_size_and_labels_out_of_range(tmp_path: Path) -> None:
    bmp = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(bmp, "BMP")
    flat = bytearray(bmp.getvalue())
    flat[22:26] = bytes(4)  # its height
    folder = parquet(tmp_path / "flat", [{"bytes": bytes(flat), "path": "flat.bmp"}] * 10, [0, 1] * 5)
    assert "flat.bmp" in str(refused(lambda: load_images(DataConfig(str(folder)), 0)))
    folder = parquet(tmp_path / "labels", [encoded(picture(i)) for i in range(10)], [0, 1] * 5)
    path = next(folder.rglob("*.parquet"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in str(refused(lambda: load_images(DataConfig(str(folder)), 0)))

    images = [encoded(picture(i)) for i in range(10)]
    told = (
        '{"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}'
    )
    table = pa.table({"image": images, "label": [0, 1, 7, 0, 1] * 2}).replace_schema_metadata({"huggingface": told})
    pq.write_table(table, path)
    said = str(refused(lambda: load_images(DataConfig(str(folder)), 0)))
    assert "label" in said
    with suppress(InputError):
        load(tmp_path)
