"""What earlier searches have taught: how the prior is made, and what it is worth elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.search import prior
from tests.support.tables import rows


@pytest.mark.slow
def test_prior(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prior.main(["--smoke", "--out", str(tmp_path)])
    (row,) = rows(tmp_path / "prior-digits.csv")
    assert 0 <= float(row["trained, with"]) <= 1
    assert "trained, with − without" in capfd.readouterr().out


def test_a_belief_is_worth_what_it_ranks() -> None:
    scores = np.linspace(0.1, 0.9, 20)
    assert prior.ranking(scores, scores)["Spearman"] == "+1.000 [+1.000, +1.000]"
    assert prior.ranking(scores, scores)["best quarter − mean"].startswith("+0.316")
    assert prior.ranking(-scores, scores)["Spearman"] == "-1.000 [-1.000, -1.000]"
