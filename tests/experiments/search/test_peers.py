"""Samplers of other projects beside ours: what is checked here needs none of their packages."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from experiments import findings
from experiments.search import peer_samplers, peers


def macs(point: dict[str, str]) -> float:
    return 1.0 + sum(map(int, point.values()))


def test_peers(tmp_path: Path) -> None:
    peers.main(["--smoke", "--out", str(tmp_path)])
    log, table = (tmp_path / "peers_runs.csv").read_text(), (tmp_path / "peers.csv").read_text()
    peers.main(["--smoke", "--out", str(tmp_path), "--samplers", "tpe"])
    assert (tmp_path / "peers_runs.csv").read_text() == log
    assert (tmp_path / "peers.csv").read_text() == table
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_a_curve_is_kept_whole_by_its_levels(tmp_path: Path) -> None:
    table, run = peers.made_up(), peers.Run("random", 60, 5000, 30)
    parser = findings.options(None, peers.__file__, "", dataset=False)
    page = findings.Page(
        "Claim: x.\n\nx", peers.__file__, parser.parse_args(["--out", str(tmp_path)]), [], device="cpu"
    )
    found = peers.carry_out([run], table, tmp_path / "log.csv", page)[run]
    np.testing.assert_allclose(found.best_score, peers.curve(run, table).best_score, atol=1e-4)
    shorter = run._replace(trials=20)
    assert shorter not in peers.carry_out([shorter], table, tmp_path / "log.csv", page)  # a part of the longer one


def test_no_affordable_point_is_asked_twice_or_left_out() -> None:
    peer = peer_samplers.RandomPeer(macs, 4.0, seed=0)
    affordable = sum(macs(peer_samplers.as_point(codes)) <= 4 for codes in itertools.product(range(3), repeat=8))
    points = []
    for _ in range(affordable):
        points.append(peer.ask())
        peer.tell(points[-1], 1.0)
    assert len({tuple(point.values()) for point in points}) == affordable
    assert max(map(macs, points)) <= 4


def test_the_front_is_of_what_nothing_dominates() -> None:
    values = np.random.default_rng(0).normal(size=(200, 3))
    front = {i for i in range(200) if not any((values[j] <= values[i]).all() for j in range(200) if j != i)}
    assert set(peer_samplers.pareto_front(values)) == front
