"""Claim: within a hard budget that all know, `predictor` finds better networks than the samplers of other projects.

    python -m experiments.search.peers  # all that is installed; run again to carry on where it stopped
    python -m experiments.search.peers --budgets 60 --samplers hebo bore
    python -m experiments.search.peers --smoke  # seconds, one seed of a made-up table

NAS-Bench-Macro within 50M, 60M and 70M multiply-adds, as in samplers.py: what is told of a trial is one of the
network's three accuracies, drawn anew for every trial; regret is the best mean accuracy within the budget minus the
mean accuracy of the network that is returned, in points. That is the one of the best score; `winner` is the one that
the sampler's model expects most of. How each sampler knows the budget is in peer_samplers.py.

The packages are in an environment of their own, those of HEBO in a second one, for it needs NumPy 1. No CUDA package
is needed; `torch==2.13.0+cpu` is a wheel on disk here, of download.pytorch.org elsewhere:

    python3.11 -m venv peers; python3.11 -m venv hebo
    peers/bin/pip install torch==2.13.0+cpu optuna==5.0.0 rich matplotlib pydantic numpy==2.4.6 scikit-learn==1.9.1
    peers/bin/pip install botorch==0.18.1 smac==2.4.1 cmaes==0.13.1 parzen_estimator==0.5.8
    hebo/bin/pip install torch==2.13.0+cpu optuna==5.0.0 rich matplotlib pydantic HEBO==0.3.6 'GPy>=1.10'

BORE 1.5.0 does not install (it pins SciPy 1.7.0, for which Python 3.11 has no wheel), and OptunaHub's c-TPE is
fetched from GitHub when it is loaded; each is a few lines in peer_samplers.py instead.
"""

from __future__ import annotations

import csv
import importlib.util
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from matplotlib.figure import Figure

from experiments import findings
from experiments.search import peer_samplers as peers
from experiments.search.peer_samplers import NAMES, Make, Point
from experiments.search.samplers import AT, BUDGETS, TABLE, Network, made_up, read, verdict

FIRST_SEED = 5000  # nothing was chosen on these seeds
REPLICATING = "predictor, trials known"
OURS = f"{REPLICATING}, winner"
PEERS: dict[str, tuple[Make, str]] = {  # and the package that it needs
    "predictor": (peers.ours, "optuna"),
    REPLICATING: (peers.ours_replicating, "optuna"),
    "random": (peers.random_points, "numpy"),
    "tpe": (peers.tpe, "optuna"),
    "tpe, repaired": (peers.repaired_tpe, "optuna"),
    "c-tpe": (peers.ConstrainedTpe, "parzen_estimator"),
    "catcmawm": (peers.CatCma, "cmaes"),
    "bore": (peers.Bore, "sklearn"),
    "botorch": (peers.BoTorch, "botorch"),
    "smac3": (peers.smac, "smac"),
    "optuna's gp, repaired": (peers.gaussian_process, "botorch"),  # where torch is, beside it
    "hebo": (peers.Hebo, "hebo"),
}
FIELDS = ("sampler", "budget", "seed", "trials", "seconds", "regrets", "winners")


class Run(NamedTuple):
    sampler: str
    budget: int
    seed: int
    trials: int


class Curve(NamedTuple):
    """Regret of the best score after each trial, and of the model's winner after so many trials as marked."""

    best_score: list[float]
    winner: dict[int, float]
    seconds: float


def curve(run: Run, table: Mapping[str, Network]) -> Curve:
    limit = run.budget * 1_000_000

    def network(point: Mapping[str, Any]) -> Network:
        return table["".join(point[name] for name in NAMES)]

    best = max(one.mean for one in table.values() if one.macs <= limit)
    peer = PEERS[run.sampler][0](lambda point: network(point).macs, limit, run.seed, run.trials)
    luck, top, regrets, winners = random.Random(f"luck {run.seed}"), (-1.0, -1.0), list[float](), dict[int, float]()
    start = time.perf_counter()
    for number in range(1, run.trials + 1):
        point: Point = peer.ask()
        assert network(point).macs <= limit, run
        score = luck.choice(network(point).accuracies)
        peer.tell(point, score)
        top = max(top, (score, network(point).mean))
        regrets.append(best - top[1])
        if number in AT and hasattr(peer, "winner"):
            winners[number] = best - network(peer.winner()).mean
    return Curve(regrets, winners, (time.perf_counter() - start) / run.trials)


def plan(names: Sequence[str], budgets: Sequence[int], seeds: int, trials: int) -> Iterator[Run]:
    """Seed by seed, so that a run that was cut short is still a comparison. Ours with a known number of trials is
    another study for each number."""
    for budget in budgets:
        for seed in range(FIRST_SEED, FIRST_SEED + seeds):
            for name in names:
                for number in [at for at in AT if at <= trials] if name == REPLICATING else [trials]:
                    yield Run(name, budget, seed, number)


def carry_out(runs: Sequence[Run], table: Mapping[str, Network], log: Path, page: findings.Page) -> dict[Run, Curve]:
    """Every run's curve, those of an earlier start of this script, in another environment too, from its log."""
    for run in runs:
        done = read_log(log)
        longer = run.sampler != REPLICATING and any(one[:3] == run[:3] and one.trials > run.trials for one in done)
        if run not in done and not longer:
            found = curve(run, table)
            page.console.print(f"{len(done) + 1}: {run} {found.best_score[-1]:.3f}, {found.seconds:.2f} s an ask")
            new = not log.exists()
            with log.open("a", newline="") as file:
                writer = csv.writer(file)
                writer.writerows([FIELDS] if new else [])
                writer.writerow([*run, f"{found.seconds:.4f}", steps(found.best_score), pairs(found.winner)])
    return read_log(log)


def steps(regrets: Sequence[float]) -> str:
    """A curve as its first trial of each level."""
    return pairs({i + 1: x for i, x in enumerate(regrets) if i == 0 or x != regrets[i - 1]})


def pairs(values: Mapping[int, float]) -> str:
    return " ".join(f"{number}:{value:.4f}" for number, value in values.items())


def read_log(log: Path) -> dict[Run, Curve]:
    if not log.exists():
        return {}
    found = {}
    with log.open(newline="") as file:
        for row in csv.DictReader(file):
            run = Run(row["sampler"], int(row["budget"]), int(row["seed"]), int(row["trials"]))
            levels, winners = as_numbers(row["regrets"]), as_numbers(row["winners"])
            regrets = [levels[max(at for at in levels if at <= i)] for i in range(1, run.trials + 1)]
            found[run] = Curve(regrets, winners, float(row["seconds"]))
    return found


def as_numbers(text: str) -> dict[int, float]:
    return {int(number): float(value) for number, _, value in (pair.partition(":") for pair in text.split())}


def returned(curves: Mapping[Run, Curve]) -> dict[tuple[str, int], dict[int, dict[int, float]]]:
    """Regret by (what returned a network, budget), trials and seed."""
    found: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for run, one in curves.items():
        several = run.sampler == REPLICATING
        for at in [run.trials] if several else [at for at in AT if at <= run.trials]:
            found.setdefault((run.sampler, run.budget), {}).setdefault(at, {})[run.seed] = one.best_score[at - 1]
            if at in one.winner:
                name = (f"{run.sampler}, winner", run.budget)
                found.setdefault(name, {}).setdefault(at, {})[run.seed] = one.winner[at]
    return found


def summarise(curves: Mapping[Run, Curve]) -> list[dict[str, Any]]:
    """One row for each budget and way to return a network, with the regret after so many trials as marked."""
    found, rng, rows = returned(curves), np.random.default_rng(0), []
    names = [row for name in PEERS for row in (name, f"{name}, winner")]
    for name, budget in sorted(found, key=lambda key: (key[1], names.index(key[0]))):
        of, row = found[name, budget], {"budget": f"{budget}M", "returned": name}
        row["n"] = "/".join(dict.fromkeys(str(len(of.get(at, {}))) for at in AT if at in of))
        for at in AT:
            values = list(of.get(at, {}).values())
            row[f"regret@{at}"] = f"{np.mean(values):.3f}" if values else ""
            row[f"sd@{at}"] = f"{np.std(values):.3f}" if values else ""
            theirs, ours = of.get(at, {}), found.get((OURS, budget), {}).get(at, {})
            row[f"winner is@{at}"] = verdict(ours, theirs, rng) if name != OURS else ""
        spent = [c.seconds for run, c in curves.items() if run.budget == budget and name.startswith(run.sampler)]
        rows.append({**row, "ms an ask": f"{1000 * np.mean(spent):.0f}"})
    return rows


def short(row: Mapping[str, Any]) -> dict[str, Any]:
    """What is read of a row."""
    cells = {f"@{at}": row[f"regret@{at}"] for at in AT} | {f"ours is @{at}": row[f"winner is@{at}"] for at in AT}
    return {name: row[name] for name in ("budget", "returned", "n")} | cells | {"ms an ask": row["ms an ask"]}


def draw(curves: Mapping[Run, Curve]) -> Figure:
    """Mean regret of the best score by trial with a band of one standard error, and of our winner at the marks."""
    figure = findings.figure(15, 5)
    panels = figure.subplots(1, len(BUDGETS), sharey=True)
    found = returned(curves)
    for panel, budget in zip(panels, BUDGETS, strict=True):
        for index, name in enumerate(name for name in PEERS if name != REPLICATING):
            of = [c.best_score for run, c in curves.items() if run.sampler == name and run.budget == budget]
            if of:
                short_ = min(map(len, of))
                lines = np.array([line[:short_] for line in of])
                mean, error, x = lines.mean(0), lines.std(0) / len(lines) ** 0.5, np.arange(1, short_ + 1)
                style = {"color": f"C{index % 10}", "ls": "--" if index > 9 else "-"}
                panel.plot(x, mean, label=f"{name} ({len(of)})", lw=2 if name == "predictor" else 1, **style)
                panel.fill_between(x, mean - error, mean + error, color=style["color"], alpha=0.1)
        marks = found.get((OURS, budget), {})
        means = [float(np.mean(list(marks[at].values()))) for at in sorted(marks)]
        panel.plot(sorted(marks), means, "k*", ms=10, label=OURS)
        panel.set(title=f"NAS-Bench-Macro within {budget}M", xlabel="trials", yscale="log", ylim=(0.008, 3))
    panels[0].set_ylabel("regret (accuracy points)")
    panels[1].legend(fontsize=7)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "a seed of 25 trials on a made-up table", dataset=False)
    parser.add_argument("--table", type=Path, default=TABLE, help="NAS-Bench-Macro as CSV")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--budgets", type=int, nargs="+", default=[60, 50, 70], help="in millions")
    parser.add_argument("--samplers", nargs="+", choices=PEERS, help="some of those that are installed")
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    table = made_up() if args.smoke else read(args.table)
    here = [name for name, (_, package) in PEERS.items() if importlib.util.find_spec(package)]
    names = [name for name in args.samplers or here if not args.smoke or name not in ("bore", "botorch", "hebo")]
    seeds, trials = (1, 25) if args.smoke else (args.seeds, args.trials)
    curves = carry_out(list(plan(names, args.budgets, seeds, trials)), table, args.out / "peers_runs.csv", page)
    rows = summarise(curves)
    page.table("peers", "Mean regret in points, by trials, and beside ours", rows, [short(row) for row in rows])
    page.figure("peers", draw(curves))
    spent = sum(one.seconds * run.trials for run, one in curves.items())
    seeds = len({run.seed for run in curves})
    page.write(n=f"at most {seeds} seeds of {trials} trials; {len(curves)} runs, {spent:,.0f} s together")


if __name__ == "__main__":
    findings.run(main)
