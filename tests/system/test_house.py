"""What holds the house together, counted: one place for private names, for opening a run, for the metric."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES, SCRIPTS = ("nas", "searchspace"), ("experiments",)
PRIVATE_FILES = {
    "nas/samplers/optuna_private.py",
    "nas/workers/ray_private.py",
    "nas/torch_private.py",
}
# Attributes with an underscore that are of objects of Optuna, Ray, PyTorch or `datasets`, and of nothing of ours.
PRIVATE = re.compile(
    r"\b(study|scratch|trial|t|one|storage|ray|torch|optuna)\._(?!lock|release)[a-z]\w*|\b(optuna|ray|torch)(\.\w+)*\._[a-z]\w*|"
    r"_raise_error_if_multi_objective|_hypervolume|class_cache|_create_default_callbacks|_base_exc|_system_config"
)
LONGEST_FUNCTION, MOST_FILES = 60, 20


def modules(packages: tuple[str, ...] = PACKAGES) -> Iterator[tuple[str, Path]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), path


def naming(pattern: str) -> set[str]:
    return {name for name, path in modules() if re.search(pattern, path.read_text(encoding="utf-8"))}


def test_private_names_of_frameworks_are_in_one_file_per_door() -> None:
    found = {
        f"{name}: {line.strip()}"
        for name, path in modules()
        if name not in PRIVATE_FILES
        for line in path.read_text(encoding="utf-8").splitlines()
        if PRIVATE.search(line)
    }
    assert found <= {
        # Trials are read through this method of Optuna's storage, which is overridden where it has to be.
        "nas/study/rdb.py: def _get_trials("
    }


def test_a_run_is_opened_in_one_place() -> None:
    assert naming(r"\bstorage\.load\(") <= {"nas/run/run.py", "nas/study/study.py"}
    assert naming(r"SearchConfig\.load\(") <= {"nas/run/run.py", "nas/study/storage.py"}


def test_what_trials_are_scored_by_is_known_in_few_places() -> None:
    assert naming(r"(?i)accurac") <= {
        "nas/metric.py",
        "nas/bundle/card.py",  # what a full training has measured, in weights of every version
        "nas/training/trainer.py",
        "nas/training/scoring.py",  # the names of scikit-learn's scorers
    }


def test_no_dictionary_of_measurements_is_read_by_text() -> None:
    assert naming(r"\bmeasured(\[|\.get\()") == set()


def test_folders_are_small_and_functions_short() -> None:
    files = Counter(str(path.parent.relative_to(ROOT)) for _, path in modules(PACKAGES + SCRIPTS))
    assert max(files.values()) <= MOST_FILES, files.most_common(3)
    longest = max(
        (node.end_lineno - node.lineno + 1, f"{name}:{node.name}")
        for name, path in modules(PACKAGES + SCRIPTS)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name not in ("parser", "search") and node.end_lineno
    )
    assert longest[0] <= LONGEST_FUNCTION, longest


def test_commands_are_thin() -> None:
    for name in ("search", "report", "dashboard", "export", "measure", "deploy", "train"):
        lines = (ROOT / "nas" / f"{name}.py").read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 80, name


# What names a thing and not what is done to it; hooks of watchers; blocks by their names in the literature.
PARTICIPLES = {"started", "ended", "abandoned", "expected", "inverted", "fused_mbconv", "mixed", "placed", "joined"}
IRREGULAR = (
    "known drawn told given taken seen held kept made found begun written shown left sent bound said chosen hidden"
)


def test_functions_are_named_by_verbs() -> None:
    """A word that ends in -ed stands before a noun (`ranked_trials`), never alone but in what is listed above."""
    alone = {
        f"{name}:{node.name}"
        for name, path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and not {"property", "cached_property"} & {ast.unparse(decorator) for decorator in node.decorator_list}
        and re.fullmatch(r"_?([a-z]{3,}ed|" + IRREGULAR.replace(" ", "|") + ")", node.name)
        and not re.fullmatch(r"_?(need|seed|feed|embed|heed|speed)", node.name)
        and node.name not in PARTICIPLES
    }
    assert alone == set()
