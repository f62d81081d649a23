"""Claim: within a hard budget, at the same number of trials, `predictor` finds better networks than its peers.

    python -m experiments.search.samplers  # all of it; run again to carry on where it stopped
    python -m experiments.search.samplers --ablation  # the parts alone and together, with a warm start
    python -m experiments.search.samplers --smoke  # seconds, two seeds of a made-up table

NAS-Bench-Macro (6,561 networks of 8 layers, CIFAR-10) within 50M, 60M and 70M multiply-adds. What a sampler is told is
one of the three seeds' accuracies, drawn at random, as a training run would give it; regret is the best mean accuracy
within the budget minus the mean accuracy of the trial that scored best, in points. SMAC3 takes part where `smac` is
installed (`pip install swig smac`: a part of it is compiled).
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
import logging
import os
import random
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import optuna
from matplotlib.figure import Figure
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, TPESampler
from rich.console import Console
from rich.progress import Progress, TimeRemainingColumn
from scipy.stats import norm, rankdata

from experiments import findings
from nas.samplers import SAMPLERS, Predictor
from nas.samplers.domain import Domain
from nas.samplers.observations import PriorObservation
from nas.study.warm_start import UNSURE_ELSEWHERE

TABLE = findings.ROOT.parent / "shared" / "data" / "nas_bench_macro" / "cifar10.csv"
BUDGETS = (50, 60, 70)
AT = (25, 50, 100, 200)
PARTS_AT = (10, 25, 50, 100)
SMAC = "smac3, rejecting"
SLOW = {"gp": (5, 100, (60,)), SMAC: (5, 100, (60,))}
CHOICES = {f"layer{i}": ("0", "1", "2") for i in range(8)}
KINDS: dict[str, BaseDistribution] = {name: CategoricalDistribution(values) for name, values in CHOICES.items()}
RESAMPLES = 10_000
Make = Callable[..., BaseSampler]


class Network(NamedTuple):
    accuracies: tuple[float, float, float]
    macs: int

    @property
    def mean(self) -> float:
        return sum(self.accuracies) / 3


class Run(NamedTuple):
    sampler: str
    budget: int
    seed: int
    trials: int


def tpe_rejecting(choices: Any, cost: Any = None, budget: Any = None, seed: int = 0) -> BaseSampler:
    """Optuna's TPE as it is; what does not fit is told as pruned with its constraint, and costs no trial."""
    return TPESampler(seed=seed)


def process_alone(choices: Any, cost: Any = None, budget: Any = None, seed: int = 0) -> BaseSampler:
    return Predictor(choices, cost, budget, seed, tpe_share=0.0)


def process_unbounded(choices: Any, cost: Any = None, budget: Any = None, seed: int = 0) -> BaseSampler:
    """The process without repair or bounds from below: any point within the budget."""
    return Predictor(choices, cost, budget, seed, low=0.0, tpe_share=0.0)


def process_and_tpe(choices: Any, cost: Any = None, budget: Any = None, seed: int = 0) -> BaseSampler:
    """A third of the proposals are TPE's, as those of `predictor` were when this was measured."""
    return Predictor(choices, cost, budget, seed, tpe_share=1 / 3)


class Smac(BaseSampler):
    """SMAC3's facade for hyperparameters behind Optuna's ask and tell; a point that does not fit has an error of 100 %,
    which is how its users state a constraint."""

    def __init__(
        self, choices: Any, cost: Any = None, budget: Any = None, seed: int = 0, trials: int = SLOW[SMAC][1]
    ) -> None:
        import smac
        from ConfigSpace import Categorical, ConfigurationSpace

        space = ConfigurationSpace({name: Categorical(name, list(options)) for name, options in choices.items()}, seed)
        self.folder = tempfile.TemporaryDirectory()
        scenario = smac.Scenario(
            space, deterministic=True, n_trials=trials, seed=seed, output_directory=Path(self.folder.name)
        )
        self.facade = smac.HyperparameterOptimizationFacade(
            scenario, lambda config, seed=0: 0.0, logging_level=logging.ERROR
        )
        self.asked: dict[int, Any] = {}

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, BaseDistribution]:
        return KINDS

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        self.asked[trial.number] = self.facade.ask()
        return {name: str(value) for name, value in dict(self.asked[trial.number].config).items()}

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        raise AssertionError(f"{name} was not sampled")

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        from smac.runhistory.dataclasses import TrialValue

        self.facade.tell(self.asked.pop(trial.number), TrialValue(cost=100.0 - (values[0] if values else 0.0)))


PEERS: dict[str, Make] = {
    "predictor": Predictor,
    **{name: make for name, make in SAMPLERS.items() if name not in ("auto", "predictor")},
    "tpe, rejecting": tpe_rejecting,
    **({SMAC: Smac} if importlib.util.find_spec("smac") else {}),
}
ABLATION: dict[str, Make] = {"process alone": process_alone, "process, no lower bound": process_unbounded}
# Every part alone and together; `warm` ones are given the evidence of an earlier search.
PARTS: dict[str, Make] = {
    "none (tpe, rejecting)": tpe_rejecting,
    "repair (tpe)": SAMPLERS["tpe"],
    "process": process_unbounded,
    "process, warm": process_unbounded,
    "repair, process": process_alone,
    "repair, process, warm": process_alone,
    "predictor": process_and_tpe,
    "predictor, warm": process_and_tpe,
}
EARLIER = (40, 50)


def read(path: Path) -> dict[str, Network]:
    with path.open() as file:
        return {
            row["arch"]: Network(
                (float(row["acc_seed0"]), float(row["acc_seed1"]), float(row["acc_seed2"])), int(row["flops"])
            )
            for row in csv.DictReader(file)
        }


def made_up() -> dict[str, Network]:
    """A table of the same shape, for the smoke run."""
    table = {}
    for digits in itertools.product("012", repeat=8):
        score = 60 + sum(int(d) * (1 + i % 3) for i, d in enumerate(digits))
        table["".join(digits)] = Network((score, score + 0.1, score - 0.1), 10_000_000 * (1 + sum(map(int, digits))))
    return table


def earlier(table: Mapping[str, Network], seed: int) -> list[PriorObservation]:
    """The evidence of another search: 50 random networks at 85 to 100 % of 40M, trained once each, by rank alone."""
    budget, number = EARLIER
    rng = random.Random(f"earlier {seed}")
    domain = Domain(CHOICES, lambda point: table["".join(point.values())].macs, budget * 1e6)
    found: dict[tuple[Any, ...], float] = {}
    while len(found) < number:
        point = domain.fresh(domain.draw(rng), found, rng)
        found[domain.key(point)] = rng.choice(table["".join(point.values())].accuracies)
    y = norm.ppf((rankdata(list(found.values())) - 0.5) / number)
    points = (dict(zip(CHOICES, key, strict=True)) for key in found)
    return [PriorObservation(point, float(score), UNSURE_ELSEWHERE) for point, score in zip(points, y, strict=True)]


def regrets(run: Run, make: Make, table: Mapping[str, Network]) -> tuple[list[float], float]:
    """Regret after each trial, and seconds an ask."""
    limit = run.budget * 1_000_000
    best = max(network.mean for network in table.values() if network.macs <= limit)
    sampler = make(CHOICES, lambda point: table["".join(point.values())].macs, limit, run.seed)
    if run.sampler.endswith(", warm"):
        assert isinstance(sampler, Predictor)
        sampler.evidence = earlier(table, run.seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    curve: list[float] = []
    luck, seconds, top = random.Random(f"luck {run.seed}"), 0.0, (-1.0, -1.0)
    while len(curve) < run.trials:
        start = time.perf_counter()
        trial = study.ask(KINDS)
        seconds += time.perf_counter() - start
        network = table["".join(trial.params[name] for name in CHOICES)]
        if network.macs > limit:
            trial.set_constraint("macs", network.macs / limit - 1)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        score = luck.choice(network.accuracies)
        study.tell(trial, score)
        top = max(top, (score, network.mean))
        curve.append(best - top[1])
    return curve, seconds / run.trials


def plan(seeds: int, trials: int, budgets: tuple[int, ...] = BUDGETS) -> Iterator[Run]:
    """Seed by seed, so that a run that was cut short is still a comparison; the slow ones last."""
    fast = [name for name in PEERS if name not in SLOW]
    for seed, budget, name in itertools.product(range(seeds), budgets, fast):
        yield Run(name, budget, seed, trials)
    for seed, name in itertools.product(range(seeds), ABLATION):
        yield Run(name, 60, seed, min(trials, 100))
    for name, (most, cap, where) in SLOW.items():
        if name not in PEERS:
            continue
        for seed, budget in itertools.product(range(min(seeds, most)), where):
            yield Run(name, budget, seed, min(trials, cap))


def plan_parts(seeds: int, trials: int) -> Iterator[Run]:
    for seed, name in itertools.product(range(seeds), PARTS):
        yield Run(name, 60, seed, min(trials, 100))


def carry_out(runs: list[Run], table: Mapping[str, Network], log: Path, console: Console) -> list[dict[str, Any]]:
    """Every run's curve, those of an earlier start of this script from its log."""
    records = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {Run(*record["run"]) for record in records}
    with Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=console) as progress:
        for run in progress.track([run for run in runs if run not in done], description="runs"):
            curve, seconds = regrets(run, (PEERS | ABLATION | PARTS)[run.sampler], table)
            records.append({"run": run, "curve": [round(x, 4) for x in curve], "seconds": seconds})
            with log.open("a") as file:
                file.write(json.dumps(records[-1]) + "\n")
    return [record for record in records if Run(*record["run"]) in set(runs)]


def verdict(ours: Mapping[int, float], theirs: Mapping[int, float], rng: np.random.Generator) -> str:
    """The paired 90 % bootstrap interval of our regret minus theirs over the seeds that both ran, in words."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return ""
    gaps = np.array([ours[seed] - theirs[seed] for seed in seeds])
    low, high = np.percentile(rng.choice(gaps, (RESAMPLES, len(gaps))).mean(1), [5, 95])
    word = "better" if high < 0 else "worse" if low > 0 else "tied"
    return f"{word} [{low:+.2f}, {high:+.2f}]"


def summarise(records: list[dict[str, Any]], marks: tuple[int, ...] = AT) -> list[dict[str, Any]]:
    """One row for each sampler and budget, with the regret after so many trials as marked."""
    curves: dict[tuple[int, str], dict[int, list[float]]] = defaultdict(dict)
    seconds: dict[tuple[int, str], list[float]] = defaultdict(list)
    for record in records:
        name, budget, seed, _ = record["run"]
        curves[budget, name][seed] = record["curve"]
        seconds[budget, name].append(record["seconds"])
    rng, rows = np.random.default_rng(0), []
    for (budget, name), found in sorted(curves.items()):
        row: dict[str, Any] = {"budget": f"{budget}M", "sampler": name, "n": len(found)}
        for at in marks:
            here = {seed: curve[at - 1] for seed, curve in found.items() if len(curve) >= at}
            ours = {s: curve[at - 1] for s, curve in curves[budget, "predictor"].items() if len(curve) >= at}
            row[f"regret@{at}"] = f"{np.mean(list(here.values())):.3f}" if here else ""
            row[f"sd@{at}"] = f"{np.std(list(here.values())):.3f}" if here else ""
            row[f"predictor is@{at}"] = verdict(ours, here, rng) if name != "predictor" else ""
        rows.append({**row, "ms an ask": f"{1000 * np.mean(seconds[budget, name]):.1f}"})
    return rows


def draw(records: list[dict[str, Any]]) -> Figure:
    """Mean regret by trial with a band of one standard error, a panel a budget."""
    figure = findings.figure(15, 4.5)
    panels = figure.subplots(1, len(BUDGETS), sharey=True)
    for panel, budget in zip(panels, BUDGETS, strict=True):
        for index, name in enumerate(PEERS):
            lines = [r["curve"] for r in records if r["run"][0] == name and r["run"][1] == budget]
            if not lines:
                continue
            mean, error = np.mean(lines, 0), np.std(lines, 0) / len(lines) ** 0.5
            x = np.arange(1, len(mean) + 1)
            panel.plot(
                x, mean, label=f"{name} ({len(lines)})", color=f"C{index}", lw=2.5 if name == "predictor" else 1.2
            )
            panel.fill_between(x, mean - error, mean + error, color=f"C{index}", alpha=0.15)
        panel.set(title=f"NAS-Bench-Macro within {budget}M", xlabel="trials", yscale="log", ylim=(0.01, 3))
    panels[0].set_ylabel("regret (accuracy points)")
    panels[1].legend(fontsize=8)
    return figure


def short(row: dict[str, Any], marks: tuple[int, ...]) -> dict[str, Any]:
    """What is read of a row."""
    cells = {f"@{at}": f"{row[f'regret@{at}']} ± {row[f'sd@{at}']}" if row[f"regret@{at}"] else "" for at in marks}
    cells |= {f"predictor is @{at}": row[f"predictor is@{at}"] for at in marks[:3]}
    return {name: row[name] for name in ("budget", "sampler", "n")} | cells | {"ms an ask": row["ms an ask"]}


def main(arguments: list[str] | None = None) -> None:
    parser = findings.options(__doc__, __file__, "2 seeds of 30 trials on a made-up table, one budget", dataset=False)
    parser.add_argument("--table", type=Path, default=TABLE, help="NAS-Bench-Macro as CSV")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--ablation", action="store_true", help="the parts alone and together, at 60M")
    args = parser.parse_args(arguments)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    name, marks = ("samplers_parts", PARTS_AT) if args.ablation else ("samplers", AT)
    page = findings.Page(__doc__, __file__, args, arguments, name, device="cpu")
    seeds, trials = (2, 30) if args.smoke else (args.seeds, args.trials)
    table = made_up() if args.smoke else read(args.table)
    planned = (
        plan_parts(seeds, trials) if args.ablation else plan(seeds, trials, BUDGETS[1:2] if args.smoke else BUDGETS)
    )
    runs = [run for run in planned if not (args.smoke and run.sampler in SLOW)]
    records = carry_out(runs, table, args.out / f"{name}.jsonl", page.console)
    rows = summarise(records, marks)
    page.table(name, "Mean regret ± sd over seeds, in points, by trials", rows, [short(row, marks) for row in rows])
    if not args.ablation:
        page.figure(name, draw(records))
    page.write(n=f"{seeds} seeds of at most {trials} trials; {len({run.sampler for run in runs})} samplers")


if __name__ == "__main__":
    findings.run(main)
