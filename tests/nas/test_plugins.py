"""Plugins that a run names: code that this user has not used here is not run by opening a run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas import plugins
from searchspace import InputError
from searchspace.registry.plugins import LOADED, load


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NAS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "theirs.py"
    path.write_text(f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n")
    return path


def test_a_run_of_somebody_elses_runs_no_code(plugin: Path) -> None:
    with pytest.raises(
        InputError, match=r"theirs\.py: not used here before; read it, then --plugin .*theirs\.py loads it"
    ):
        plugins.load_named([str(plugin)])
    with pytest.raises(InputError, match=r"plugin of\.theirs: not used here before"):
        plugins.load_named(["of.theirs"])
    assert not (plugin.parent / "it ran").exists()


def test_what_was_loaded_or_used_before_is_loaded(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "sources", lambda: (str(plugin),))
    assert plugins.plugins_in_use() == plugins.plugins_in_use() == (str(plugin),)
    assert (plugin.parent / "cache" / plugins.FILE).read_text() == f"{plugin}\n"
    plugins.load_named([str(plugin)])
    assert (plugin.parent / "it ran").exists()
    del sys.modules[LOADED.pop(plugin)]
    load(str(plugin))  # by --plugin
    plugins.load_named([str(plugin)])
    del sys.modules[LOADED.pop(plugin)]


def test_a_plugin_that_exits_is_refused(plugin: Path) -> None:
    plugin.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match=r"theirs\.py: cannot be imported \(SystemExit: 3, line 2\)"):
        load(str(plugin))


def test_a_file_that_has_gone_is_named_and_nonsense_is_left_to_the_parser(plugin: Path) -> None:
    plugin.unlink()
    with pytest.raises(InputError, match=r"there is no such file; where it has been moved, --plugin NEW/PLACE/theirs"):
        plugins.load_named([str(plugin)])
    plugins.load_named("theirs.py")
    plugins.load_named([3])


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CACHE", "/proc/none")
    monkeypatch.setattr(plugins, "sources", lambda: ("/a/b.py",))
    assert plugins.plugins_in_use() == ("/a/b.py",)
