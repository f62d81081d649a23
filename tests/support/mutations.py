"""What may be wrong with a run folder: values, bytes, links, pipes, rights, names. Each is drawn at random from a seed.

A mutation changes a copy of a run folder and says in words what it did. Links lead to an `outside` folder, whose files
nothing may change.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

VALUES: list[Any] = [
    *(None, True, False, 0, -1, -5, 7.5, 1e300, 10**30, "", "x", "\x1b[31mred", "a\nb", "<script>", "ü" * 300),
    *([], {}, [1], ["x"], [[]], {"x": 1}, {"x": [1, None]}, [[1, 2], [3]], "1e9", "0", "-1", [None] * 5),
]
# Texts of JSON beside these, some of which are none.
JSON = ["NaN", "Infinity", "-Infinity", '"\\ud800"', "[" * 100_000, '{"a":' * 50_000, "{", "", "nul", "'x'", "9" * 5000]
JSON += [json.dumps("[" * 100_000), json.dumps("{}"), json.dumps("[]"), json.dumps("null"), json.dumps('{"blocks": 1}')]
TEXTS = [
    "pending",
    "COMPLETE",
    "RUNNING",
    "FAIL",
    "PRUNED",
    "WAITING",
    "MAXIMIZE",
    "MINIMIZE",
    "INF_POS",
    "",
    "x",
    "\x00",
]
NAMES = [
    b"r\xff\xfe.csv",
    b"a\nb",
    b"-rf",
    b" ",
    b"\xc3\x28",
    b"x" * 255,
    b"trial-99999999999",
    b"trial-x",
    b"0.1.part",
]
HUGE = 100_000_000
FILES = ["config.yaml", "study.db", "trials.csv", "best.yaml", "log.txt", "latency.json", "environment.yaml"]
FILES += ["evidence.json", "report.html", "trials.parquet", "finals.csv", "retrained/trial-0/weights.safetensors"]
FILES += ["retrained/trial-0/training.yaml", "retrained/trial-0/confusion.json", "retrained/trial-0/card.md"]
FOLDERS = ["checkpoints", "artifacts", "retrained", "retrained/trial-0", "tensorboard", "mlruns"]
BESIDE = ["study.db-wal", "study.db-shm", "study.db-journal", "lock", "driver", *FOLDERS]

Random = random.Random


def mutated(rng: Random, run: Path, outside: Path) -> str:
    """Change a run folder in one way, seldom in two or three."""
    ways = rng.choices(WAYS, WEIGHTS, k=rng.choice([1, 1, 1, 1, 2, 3]))
    ways.sort(key=lambda way: way is rights)  # last: what may not be read cannot be changed either
    return "; ".join(way(rng, run, outside) for way in ways)


def a_file(rng: Random, run: Path) -> Path:
    """One of a run's files, the important ones oftener."""
    there = [name for name in FILES if (run / name).is_file() and not (run / name).is_symlink()]
    return run / (rng.choice(there[: rng.choice([2, 4, len(there)])]) if there else "config.yaml")


def study_value(rng: Random, run: Path, outside: Path) -> str:
    """An attribute of a trial or of the study becomes something else, of one row or of all."""
    table = rng.choice(["trial_user_attributes"] * 4 + ["study_user_attributes"] * 2 + ["trial_system_attributes"])
    text = rng.choice(JSON) if rng.random() < 0.4 else json.dumps(rng.choice(VALUES))

    def change(database: sqlite3.Connection) -> str:
        keys = [key for (key,) in database.execute(f"select distinct key from {table} order by key")]
        if not keys:
            return "nothing"
        key = rng.choice(keys)
        some = rng.choice(["", f" and rowid % 5 = {rng.randrange(5)}"])
        database.execute(f"update {table} set value_json = ? where key = ?{some}", (text, key))
        return f"{table} {key} = {text[:60]}"

    return in_study(run, change)


def study_column(rng: Random, run: Path, outside: Path) -> str:
    """A column of Optuna's own tables becomes something else."""

    def change(database: sqlite3.Connection) -> str:
        table = rng.choice(tables(database))
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        if not columns:  # of a table whose index was changed
            return "nothing"
        column = rng.choice(columns)
        new = rng.choice([*TEXTS, *JSON, None, -1, 0, 7, 2**62, 7.5, b"\xff\xfe", "nan"])
        some = rng.choice(["", f" where rowid % 5 = {rng.randrange(5)}"])
        database.execute(f"update or ignore {table} set {column} = ?{some}", (new,))
        return f"{table}.{column} = {str(new)[:60]}"

    return in_study(run, change)


def study_rows(rng: Random, run: Path, outside: Path) -> str:
    """Rows or whole tables are gone, or there twice, or a table is a view."""

    def change(database: sqlite3.Connection) -> str:
        table = rng.choice(tables(database))
        what = rng.choice(
            [
                f"delete from {table} where rowid % 3 = {rng.randrange(3)}",
                f"delete from {table}",
                f"drop table {table}",
                f"alter table {table} rename to {table}_",
                f"insert or replace into {table} select * from {table} order by random() limit 1",
                f"create trigger t after update on {table} begin delete from trials; end",
                f"create view v as select * from {table}",
            ]
        )
        database.execute(what)
        return what

    return in_study(run, change)


def in_study(run: Path, change: Callable[[sqlite3.Connection], str]) -> str:
    if any((run / f"study.db{end}").is_fifo() for end in ("", "-journal", "-wal", "-shm")):  # which SQLite waits for
        return "no study to change (changed before)"
    try:
        with closing(sqlite3.connect(run / "study.db")) as database:
            database.execute("pragma foreign_keys = off")
            said = change(database)
            database.commit()
            return said
    except (sqlite3.Error, UnicodeError) as error:  # changed before
        return f"no study to change ({error})"


def tables(database: sqlite3.Connection) -> list[str]:
    found = database.execute("select name from sqlite_master where type = 'table' order by name")
    return [name for (name,) in found] or ["trials"]


def yaml_value(rng: Random, run: Path, outside: Path) -> str:
    """A value in a YAML file becomes something else, or is gone, or has a neighbour that nobody knows."""
    path = run / rng.choice(["config.yaml"] * 4 + ["best.yaml", "environment.yaml", "retrained/trial-0/training.yaml"])
    if not path.is_file():  # a pipe would be waited for
        return "no YAML to change"
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError):
        return "no YAML to change"
    said = changed(rng, data)
    path.write_bytes(yaml.safe_dump(data).encode())
    return f"{path.name} {said}"


def json_value(rng: Random, run: Path, outside: Path) -> str:
    path = run / rng.choice(["latency.json", "evidence.json", "retrained/trial-0/confusion.json"])
    if not path.is_file():
        return "no JSON to change"
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return "no JSON to change"
    said = changed(rng, data)
    path.write_text(rng.choice(JSON) if rng.random() < 0.2 else json.dumps(data))
    return f"{path.name} {said}"


def weights_note(rng: Random, run: Path, outside: Path) -> str:
    """What trained weights say of their training, in the header of their file."""
    path = run / "retrained" / "trial-0" / "weights.safetensors"
    if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
        return "no weights"
    raw = path.read_bytes()
    try:
        end = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:end])
        data = json.loads(header["__metadata__"]["trained"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "no note to change"
    said = changed(rng, data)
    header["__metadata__"]["trained"] = rng.choice(JSON) if rng.random() < 0.2 else json.dumps(data)
    made = json.dumps(header).encode()
    path.write_bytes(len(made).to_bytes(8, "little") + made + raw[end:])
    return f"note {said}"


def changed(rng: Random, data: Any) -> str:
    """Somewhere in the data a value is another."""
    node, place = data, "top"
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
        if not keys:
            return "nothing"
        key = rng.choice(keys)
        place += f".{key}"
        if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.2:
            break
        node = node[key]
    new = rng.choice([*VALUES, "postgresql+psycopg://nas@127.0.0.1:9/x", "sqlite:///../outside/victim.txt"])
    if rng.random() < 0.1:
        del node[key]
        return f"{place} gone"
    if isinstance(node, dict) and rng.random() < 0.1:
        node["unknown"] = new
        return f"{place} has a neighbour"
    node[key] = new
    return f"{place} = {str(new)[:40]!r}"


def bytes_of(rng: Random, run: Path, outside: Path) -> str:
    """A file's bytes are flipped, cut, emptied, doubled, or others."""
    path = a_file(rng, run)
    old = path.read_bytes() if path.is_file() else b""
    way = rng.choice(["flip", "cut", "empty", "zeros", "noise", "double", "latin", "bom", "middle", "huge"])
    new = bytearray(old)
    if way == "flip" and old:
        for _ in range(rng.choice([1, 8, 100])):
            new[rng.randrange(len(new))] ^= 1 << rng.randrange(8)
    middle = rng.randrange(len(old) + 1)
    made = {
        "cut": old[:middle],
        "empty": b"",
        "zeros": bytes(len(old)),
        "noise": rng.randbytes(2000),
        "double": old + old,
        "latin": old[:middle] + b"\xe4\xff" + old[middle:],
        "bom": b"\xff\xfe" + old,
        "middle": old[:middle] + rng.randbytes(40) + old[middle:],
    }.get(way, bytes(new))
    if path.parent.is_dir() and (path.is_file() or not path.exists()):
        path.write_bytes(made)
        if way == "huge":
            os.truncate(path, HUGE)
    return f"{path.name} {way}"


def of_another_kind(rng: Random, run: Path, outside: Path) -> str:
    """A folder, a pipe, a link or a device where a file or folder was."""
    name = rng.choice([*FILES, *BESIDE])
    path = run / name
    kinds = [
        "gone",
        "folder",
        "full folder",
        "pipe",
        "dangling",
        "loop",
        "to file",
        "to folder",
        "to study",
        "zeros",
        "to self",
    ]
    kind = rng.choice(kinds)
    if not path.parent.is_dir() or path.parent.is_symlink():
        return "no place"
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if kind in ("folder", "full folder"):
        path.mkdir()
        if kind == "full folder":
            (path / "within").write_text("x")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        to = {
            "dangling": outside / "nothing",
            "loop": path,
            "to file": outside / "victim.txt",
            "zeros": Path("/dev/zero"),
        }
        to |= {"to folder": outside / "folder", "to study": outside / "study.db", "to self": run}
        path.symlink_to(to[kind])
    return f"{name} {kind}"


def rights(rng: Random, run: Path, outside: Path) -> str:
    """Rights are gone, of the folder, of what is in it, or of one file."""
    if run.stat().st_mode & 0o500 != 0o500:
        return "none are left"
    mode = rng.choice([0o000, 0o444, 0o200, 0o555, 0o500])
    path = rng.choice([run, a_file(rng, run), run / rng.choice(FOLDERS)])
    if path.exists() and not path.is_symlink():
        path.chmod(mode)
    return f"{path.name} has rights {mode:o}"


def another_name(rng: Random, run: Path, outside: Path) -> str:
    """Something of an odd name is in the folder, or a half written file that leads outside."""
    where = rng.choice([run, run, run / rng.choice(FOLDERS)])
    if where.is_symlink() or not (where.is_dir() or not where.exists()) or where.parent.is_symlink():
        return "no place"
    where.mkdir(exist_ok=True, parents=True)
    path = os.path.join(os.fsencode(where), rng.choice(NAMES))
    kind = rng.choice(["file", "folder", "pipe", "link", "part"])
    if kind == "part":
        name = rng.choice(["trials.csv", "config.yaml", "report.html", "trials.parquet", "best.yaml"])
        path = os.fsencode(run / f"{name}.{os.getpid()}.part")
    if os.path.lexists(path):
        return "is there"
    if kind == "file":
        with open(path, "wb") as file:
            file.write(b"x")
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        os.symlink(outside / "victim.txt", path)
    return f"{kind} {path!r}"


def table_row(rng: Random, run: Path, outside: Path) -> str:
    """trials.csv says something else than the study."""
    path = run / "trials.csv"
    number = rng.choice(["9" * 5000, "٣", "-1", "1e3", "", "99", '"' * 3, "x" * 200_000])
    if path.is_file() and not path.is_symlink():
        with path.open("a", encoding="utf-8") as table:
            table.write(f"{number},{rng.choice(['complete', 'failed', 'running', ''])},0.5\n")
    return f"trials.csv has trial {number[:20]}"


WAYS: list[Callable[[Random, Path, Path], str]] = [
    *(study_value, study_column, study_rows, yaml_value, json_value, weights_note),
    *(bytes_of, of_another_kind, rights, another_name, table_row),
]
WEIGHTS = [6, 3, 2, 4, 2, 2, 5, 5, 2, 2, 1]
