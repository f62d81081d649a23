"""Samplers at the same number of trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.search import samplers


def test_samplers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samplers.main(["--smoke", "--out", str(tmp_path)])
    first = (tmp_path / "samplers.csv").read_text()
    samplers.main(["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "samplers.csv").read_text() == first
    assert (tmp_path / "samplers.png").stat().st_size > 10_000
    monkeypatch.setattr(samplers, "PARTS", {n: samplers.PARTS[n] for n in ("predictor", "predictor, warm")})
    samplers.main(["--smoke", "--ablation", "--out", str(tmp_path)])
    table = (tmp_path / "samplers_parts.csv").read_text()
    assert [line.split(",2,")[0] for line in table.splitlines()[1:]] == ["60M,predictor", '60M,"predictor, warm"']
