"""What ships under a name, and files of somebody's own that may be called alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from searchspace import InputError, presets


def test_a_name_that_ships_then_a_file_then_a_name_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert presets.find("space", "spaces", "Mobile").name == "mobile.yaml"
    Path("Mobile").write_text("mine")
    Path("mobile").write_text("mine")
    assert presets.find("space", "spaces", "Mobile") == Path("Mobile")
    assert presets.find("space", "spaces", "mobile").name == "mobile.yaml"
    with pytest.raises(InputError, match="space 'mobil': a file, or one of all, "):
        presets.find("space", "spaces", "mobil")
    with pytest.raises(InputError, match="a file, or one of"):
        presets.find("space", "spaces", tmp_path)
