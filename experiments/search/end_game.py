"""Claim: what `predictor` expects of the points it tried names a better network than the best score does, and trials
that evaluate a point once more, where that tells more than a new point, make it better still.

    python -m experiments.search.end_game  # all of it; run again to carry on where it stopped
    python -m experiments.search.end_game --noise 3 --trials 100
    python -m experiments.search.end_game --smoke  # seconds, one seed of a made-up table

NAS-Bench-Macro within 50M, 60M and 70M multiply-adds, as in samplers.py: what is told of a trial is one of the
network's three accuracies, drawn anew for every trial; regret is the best mean accuracy within the budget minus the
mean accuracy of the network that is returned, in points. `--noise 3` makes every accuracy three times as far from its
network's mean, as in a table of briefer trainings.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.trial import TrialState
from rich.console import Console
from rich.progress import track

from experiments import findings
from experiments.search import samplers
from experiments.search.samplers import BUDGETS, CHOICES, KINDS, Network
from nas.samplers import Predictor

AT = (25, 50, 100, 200)
FIRST_SEED = 3000  # the rule was chosen on seeds below
TPE = "tpe rejecting, best score"
SCORE = "best score"
EXPECTED = "best expected score"
REPLICATES = "best expected score, replicates"
LUCK = "best score, replicates"
RETURNED = (TPE, SCORE, EXPECTED, LUCK, REPLICATES, "best network tried")


class Run(NamedTuple):
    budget: int
    noise: float
    seed: int
    trials: int


class Evaluation:
    """One network of the table after another, each told with the luck of a training."""

    def __init__(self, table: Mapping[str, Network], run: Run) -> None:
        self.table, self.run, self.limit = table, run, run.budget * 1_000_000
        self.luck = random.Random(f"luck {run.seed}")
        self.best = max(network.mean for network in table.values() if network.macs <= self.limit)

    def network(self, point: Mapping[str, Any]) -> Network:
        return self.table["".join(point[name] for name in CHOICES)]

    def macs(self, point: Mapping[str, Any]) -> float:
        return self.network(point).macs

    def score(self, point: Mapping[str, Any]) -> float:
        network = self.network(point)
        return network.mean + self.run.noise * (self.luck.choice(network.accuracies) - network.mean)

    def regret(self, point: Mapping[str, Any]) -> float:
        return self.best - self.network(point).mean

    def go_on(self, study: optuna.Study, trials: int) -> None:
        """Until so many trials are complete; what does not fit is told as pruned with its constraint."""
        complete = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))
        while complete < trials:
            trial = study.ask(KINDS)
            if self.macs(trial.params) > self.limit:
                trial.set_constraint("macs", self.macs(trial.params) / self.limit - 1)
                study.tell(trial, state=TrialState.PRUNED)
                continue
            study.tell(trial, self.score(trial.params))
            complete += 1


def regrets(run: Run, table: Mapping[str, Network]) -> dict[str, dict[int, float]]:
    """Regret of each network that may be returned, after so many trials as marked.

    A study without replicates is the same as the first half of one with them, so that these go on from there.
    """
    found: dict[str, dict[int, float]] = {name: {} for name in RETURNED}
    marks = [at for at in AT if at <= run.trials]
    evaluation, theirs = Evaluation(table, run), Evaluation(table, run)
    study = started(Predictor(CHOICES, evaluation.macs, evaluation.limit, run.seed))
    tpe = started(samplers.tpe_rejecting(CHOICES, seed=run.seed))
    for at in marks:
        evaluation.go_on(study, at)
        sampler = Predictor(CHOICES, evaluation.macs, evaluation.limit, run.seed, trials=at)
        replicated = started(sampler)
        replicated.add_trials(study.trials[: at // 2])
        evaluation.go_on(replicated, at)
        theirs.go_on(tpe, at)
        found[TPE][at] = theirs.regret(tpe.best_trial.params)
        found[SCORE][at] = evaluation.regret(study.best_trial.params)
        found[EXPECTED][at] = evaluation.regret(sampler.winner(study).params)
        found[LUCK][at] = evaluation.regret(replicated.best_trial.params)
        found[REPLICATES][at] = evaluation.regret(sampler.winner(replicated).params)
        found[RETURNED[-1]][at] = min(evaluation.regret(trial.params) for trial in study.trials)
    return found


def started(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=sampler)


def plan(seeds: int, trials: int, noise: float) -> Iterator[Run]:
    """Seed by seed, so that a run that was cut short is still a comparison."""
    for seed, budget in itertools.product(range(FIRST_SEED, FIRST_SEED + seeds), BUDGETS):
        yield Run(budget, noise, seed, trials)


def carry_out(runs: list[Run], table: Mapping[str, Network], log: Path, console: Console) -> list[dict[str, Any]]:
    """Every run's regrets, those of an earlier start of this script from its log."""
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {Run(*record["run"]) for record in records}
    for run in track([run for run in runs if run not in done], description="runs", console=console):
        with log.open("a") as file:
            file.write(json.dumps({"run": run, "regrets": regrets(run, table)}) + "\n")
    return [json.loads(line) for line in log.read_text().splitlines()]


def summarise(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each noise, budget (and all of them) and way to return a network, with how far it is from the best
    score's in a paired 90 % bootstrap interval."""
    rows = []
    for noise in sorted({record["run"][1] for record in records}):
        for budget in [*BUDGETS, None]:
            of = [r for r in records if r["run"][1] == noise and budget in (None, r["run"][0])]
            for name in RETURNED:
                row: dict[str, Any] = {"noise": noise, "budget": f"{budget}M" if budget else "all", "returned": name}
                rows.append({**row, "n": len(of), **_columns(of, name)})
    return rows


def _columns(records: list[dict[str, Any]], name: str) -> dict[str, str]:
    """Mean regret, its spread, and the interval of its difference, at each mark."""
    columns = {}
    for at in map(str, AT):
        values = np.array([r["regrets"][name][at] for r in records if at in r["regrets"][name]])
        score = {i: r["regrets"][SCORE][at] for i, r in enumerate(records) if at in r["regrets"][SCORE]}
        columns[f"regret@{at}"] = f"{values.mean():.3f}" if len(values) else ""
        columns[f"sd@{at}"] = f"{values.std():.3f}" if len(values) else ""
        ours = dict(zip(score, values, strict=True))
        rng = np.random.default_rng(0)
        columns[f"than best score@{at}"] = samplers.verdict(ours, score, rng) if name != SCORE else ""
    return columns


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Mean regret at the marks over all budgets with one standard error, a panel per noise."""
    noises = sorted({row["noise"] for row in rows})
    figure = findings.figure(6.5 * len(noises), 4.5)
    panels = figure.subplots(1, len(noises), squeeze=False)
    for panel, noise in zip(panels[0], noises, strict=True):
        for name in RETURNED:
            (row,) = (r for r in rows if (r["noise"], r["budget"], r["returned"]) == (noise, "all", name))
            at = [mark for mark in AT if row[f"regret@{mark}"]]
            error = [float(row[f"sd@{mark}"]) / row["n"] ** 0.5 for mark in at]
            panel.errorbar(at, [float(row[f"regret@{mark}"]) for mark in at], error, label=name, capsize=3, marker="o")
        panel.set(title=f"noise of the table × {noise:g}", xlabel="trials", xscale="log", yscale="log")
        panel.set_xticks(AT, map(str, AT))
        panel.minorticks_off()
    panels[0][0].set_ylabel("regret (accuracy points)")
    panels[0][0].legend(fontsize=8)
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "a seed of 50 trials on a made-up table", dataset=False)
    parser.add_argument("--table", type=Path, default=samplers.TABLE, help="NAS-Bench-Macro as CSV")
    parser.add_argument("--seeds", type=int, default=15)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--noise", type=float, default=1.0, help="as a multiple of the table's own")
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    page = findings.Page(__doc__, __file__, args, arguments, device="cpu")
    seeds, trials = (1, 50) if args.smoke else (args.seeds, args.trials)
    table = samplers.made_up() if args.smoke else samplers.read(args.table)
    planned = list(plan(seeds, trials, args.noise))
    rows = summarise(carry_out(planned, table, args.out / "end_game.jsonl", page.console))
    page.table(
        "end_game", "Mean regret in points, by trials, and beside the best score's", rows, list(map(short, rows))
    )
    page.figure("end_game", draw(rows))
    page.write(n=f"{seeds} seeds of at most {trials} trials × {len(BUDGETS)} budgets, noise × {args.noise:g}")


def short(row: dict[str, Any]) -> dict[str, Any]:
    """What is read of a row."""
    cells = {f"@{at}": row[f"regret@{at}"] for at in AT}
    cells |= {f"than best score @{at}": row[f"than best score@{at}"] for at in AT}
    return {name: row[name] for name in ("noise", "budget", "returned", "n")} | cells


if __name__ == "__main__":
    findings.run(main)
