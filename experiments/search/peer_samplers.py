"""The samplers of other projects as one small interface: a point inside the budget is asked for, its score is told.

Each knows the budget as exactly as it can take it in: its acquisition is computed of all affordable points (BoTorch,
BORE, HEBO), or its proposals are drawn anew until one is inside (CatCMAwM), or what is outside is told as such, and
costs no trial (TPE, c-TPE, SMAC3), or our wrapper repairs them (Optuna's GP). Separate from `peers.py`, since most
need a package that this project does not.
"""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, TPESampler

from experiments.search.samplers import CHOICES, KINDS, Smac
from nas.samplers import SAMPLERS, Predictor

Point = dict[str, str]
Codes = tuple[int, ...]
START = 10  # random points before a model, where the package has no default of its own
NAMES = list(CHOICES)


class Peer(Protocol):
    def ask(self) -> Point: ...

    def tell(self, point: Point, score: float) -> None: ...


Macs = Callable[[Mapping[str, Any]], float]
Make = Callable[[Macs, float, int, int], Peer]  # what a point costs, the budget, seed, number of trials


def as_point(codes: Any) -> Point:
    return {name: str(int(code)) for name, code in zip(NAMES, codes, strict=True)}


def as_codes(point: Mapping[str, Any]) -> Codes:
    return tuple(int(point[name]) for name in NAMES)


class OptunaPeer:
    """Any Optuna sampler; what does not fit is told as pruned, with its constraint."""

    def __init__(self, sampler: BaseSampler, macs: Macs, limit: float) -> None:
        self.macs, self.limit = macs, limit
        self.study = optuna.create_study(direction="maximize", sampler=sampler)

    def ask(self) -> Point:
        while True:
            self.trial = self.study.ask(KINDS)
            cost = self.macs(self.trial.params)
            if cost <= self.limit:
                return dict(self.trial.params)
            self.trial.set_constraint("macs", cost / self.limit - 1)
            self.study.tell(self.trial, state=optuna.trial.TrialState.PRUNED)

    def tell(self, point: Point, score: float) -> None:
        self.study.tell(self.trial, score)


class OursPeer(OptunaPeer):
    """Our sampler, which names the point that it expects most of."""

    def winner(self) -> Point:
        assert isinstance(self.study.sampler, Predictor)
        return self.study.sampler.winner(self.study).params


class Enumerating:
    """What is shared by models whose acquisition is computed of every affordable point that was not tried."""

    def __init__(self, macs: Macs, limit: float, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        every = itertools.product(range(3), repeat=len(NAMES))
        self.points = np.array([codes for codes in every if macs(as_point(codes)) <= limit])
        self.row = {tuple(codes): i for i, codes in enumerate(self.points.tolist())}
        self.tried: list[int] = []
        self.scores: list[float] = []

    def ask(self) -> Point:
        left = np.setdiff1d(np.arange(len(self.points)), self.tried)
        if len(self.scores) < START:
            return as_point(self.points[self.rng.choice(left)])
        return as_point(self.points[left[int(np.argmax(self.acquisition(left)))]])

    def acquisition(self, left: NDArray[np.intp]) -> NDArray[np.float64]:
        raise NotImplementedError

    def tell(self, point: Point, score: float) -> None:
        self.tried.append(self.row[as_codes(point)])
        self.scores.append(score)


class BoTorch(Enumerating):
    """`MixedSingleTaskGP` of categorical dimensions with learnt noise, and `qLogNoisyExpectedImprovement`, which is
    BoTorch's advice where scores are noisy."""

    def __init__(self, macs: Macs, limit: float, seed: int, trials: int) -> None:
        import torch

        super().__init__(macs, limit, seed)
        torch.manual_seed(seed)
        self.x = torch.tensor(self.points, dtype=torch.float64)
        self.seed = seed
        self.last: dict[str, Any] = {}

    def model(self) -> Any:
        """Fitted from where the last fit ended."""
        import torch
        from botorch.fit import fit_gpytorch_mll
        from botorch.models import MixedSingleTaskGP
        from gpytorch.mlls import ExactMarginalLogLikelihood

        y = torch.tensor(self.scores, dtype=torch.float64)[:, None]
        model = MixedSingleTaskGP(self.x[self.tried], y, cat_dims=list(range(len(NAMES))))
        for name, value in self.last.items():
            model.get_parameter(name).data.copy_(value)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        self.last = {name: value.detach().clone() for name, value in model.named_parameters()}
        return model

    def acquisition(self, left: NDArray[np.intp]) -> NDArray[np.float64]:
        """Of the hundred points that noiseless expected improvement over the best mean puts first; below all others."""
        import torch
        from botorch.acquisition.analytic import LogExpectedImprovement
        from botorch.acquisition.logei import qLogNoisyExpectedImprovement
        from botorch.sampling import SobolQMCNormalSampler

        model, found = self.model(), np.full(len(left), -np.inf)
        with torch.no_grad():
            best = model.posterior(self.x[self.tried]).mean.max()
            first = LogExpectedImprovement(model, best)(self.x[left][:, None]).argsort(descending=True)[:100]
            sampler = SobolQMCNormalSampler(torch.Size([64]), seed=self.seed)
            improvement = qLogNoisyExpectedImprovement(model, self.x[self.tried], sampler=sampler, prune_baseline=True)
            found[first.numpy()] = improvement(self.x[left][first][:, None]).numpy()
        return found

    def winner(self) -> Point:
        """The point tried of which the model expects most."""
        mean = self.model().posterior(self.x[self.tried]).mean[:, 0]
        return as_point(self.points[self.tried[int(mean.argmax())]])


class Bore(Enumerating):
    """BORE (Tiao et al. 2021): a classifier of the best third, whose probability is maximised. Random forests are one
    of theirs; a tenth of the points is random, as in their plug-in for HpBandSter."""

    def __init__(self, macs: Macs, limit: float, seed: int, trials: int) -> None:
        super().__init__(macs, limit, seed)
        self.seed = seed

    def acquisition(self, left: NDArray[np.intp]) -> NDArray[np.float64]:
        from sklearn.ensemble import RandomForestClassifier

        if self.rng.random() < 0.1:
            return self.rng.random(len(left))
        one_hot = np.eye(3)[self.points].reshape(len(self.points), -1)
        good = np.array(self.scores) >= np.quantile(self.scores, 2 / 3)
        forest = RandomForestClassifier(200, min_samples_split=2, random_state=self.seed + len(good))
        probability = forest.fit(one_hot[self.tried], good).predict_proba(one_hot[left])[:, -1]
        found: NDArray[np.float64] = probability + 1e-9 * self.rng.random(len(left))
        return found


class Hebo(Enumerating):
    """HEBO, whose acquisitions are computed of every affordable point instead of by NSGA-II, which took 5 s an ask: it
    chooses from their exact Pareto front. The choices are integers, as their order allows."""

    def __init__(self, macs: Macs, limit: float, seed: int, trials: int) -> None:
        import torch
        from hebo.design_space.design_space import DesignSpace
        from hebo.optimizers import hebo

        super().__init__(macs, limit, seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        hebo.EvolutionOpt = self.front_optimizer
        kinds = [{"name": name, "type": "int", "lb": 0, "ub": 2} for name in NAMES]
        self.optimizer = hebo.HEBO(DesignSpace().parse(kinds), scramble_seed=seed)

    def front_optimizer(self, space: Any, acquisitions: Any, **options: Any) -> Any:
        """What stands in for HEBO's optimiser of its three acquisitions."""
        self.acquisitions = acquisitions
        return self

    def optimize(self, **options: Any) -> Any:
        """The affordable points that were not tried and that no other is better than in all three."""
        import pandas
        import torch

        left = np.setdiff1d(np.arange(len(self.points)), self.tried)
        rows = torch.tensor(self.points[left], dtype=torch.float32)
        values = self.acquisitions(rows, torch.zeros(len(rows), 0, dtype=torch.long)).numpy()
        return pandas.DataFrame(self.points[left[pareto_front(values)]], columns=NAMES)

    def ask(self) -> Point:
        while True:
            self.proposal = self.optimizer.suggest(1)
            codes = tuple(int(code) for code in self.proposal[NAMES].to_numpy()[0])
            if codes in self.row:
                return as_point(codes)

    def tell(self, point: Point, score: float) -> None:
        super().tell(point, score)
        self.optimizer.observe_new_data(self.proposal, np.array([[-score]]))


def pareto_front(values: NDArray[np.float64]) -> list[int]:
    """The rows that no other is below in every column, or below and equal."""
    front: list[int] = []
    for i in np.lexsort(values.T[::-1]):
        if not front or not (values[front] <= values[i]).all(1).any():
            front.append(int(i))
    return front


class CatCma:
    """CatCMAwM: solutions are drawn until one is inside the budget, and told when there is a population of them."""

    def __init__(self, macs: Macs, limit: float, seed: int, trials: int) -> None:
        from cmaes import CatCMAwM

        self.optimizer = CatCMAwM(c_space=[3] * len(NAMES), seed=seed)
        self.macs, self.limit = macs, limit
        self.scored: list[tuple[Any, float]] = []

    def ask(self) -> Point:
        while True:
            self.solution = self.optimizer.ask()
            point = as_point(self.solution.c.argmax(1))
            if self.macs(point) <= self.limit:
                return point

    def tell(self, point: Point, score: float) -> None:
        self.scored.append((self.solution, -score))
        if len(self.scored) == self.optimizer.population_size:
            self.optimizer.tell(self.scored)
            self.scored = []


class ConstrainedTpe:
    """c-TPE (Watanabe and Hutter 2023) with their Parzen estimators: the relative density ratio of the objective times
    that of the constraint. Points outside teach the constraint's estimators, and cost no trial; what was tried is left
    out of the candidates, since in a space of choices alone it came again and again."""

    def __init__(self, macs: Macs, limit: float, seed: int, trials: int) -> None:
        from ConfigSpace import CategoricalHyperparameter

        self.kinds = {name: CategoricalHyperparameter(name, CHOICES[name]) for name in NAMES}
        self.macs, self.limit, self.rng = macs, limit, np.random.RandomState(seed)
        self.inside: list[Codes] = []
        self.outside: list[Codes] = []
        self.scores: list[float] = []

    def ask(self) -> Point:
        while True:
            codes = self.propose()
            if self.macs(as_point(codes)) <= self.limit:
                return as_point(codes)
            self.outside.append(codes)

    def propose(self) -> Codes:
        if len(self.scores) < START:
            return tuple(self.rng.randint(3, size=len(NAMES)))
        order = np.argsort(-np.array(self.scores))
        best = int(np.ceil(0.25 * len(order) ** 0.5))  # their gamma, and 24 candidates of each density
        below = [self.inside[i] for i in order[:best]]
        above = [self.inside[i] for i in order[best:]] + self.outside
        pairs, total = [(below, above), (self.inside, self.outside)], len(self.inside) + len(self.outside)
        densities = [(self.density(good), self.density(bad), len(good) / total) for good, bad in pairs]
        drawn = [np.array(good.sample(24, self.rng)) for good, _, _ in densities]
        tried = {*self.inside, *self.outside}
        new = [i for i, codes in enumerate(np.concatenate(drawn, 1).T.tolist()) if tuple(codes) not in tried]
        if not new:
            return tuple(self.rng.randint(3, size=len(NAMES)))
        candidates = list(np.concatenate(drawn, 1)[:, new])
        ratio = np.zeros(len(candidates[0]))
        for good, bad, share in densities:
            apart = bad.log_pdf(candidates) - good.log_pdf(candidates)
            ratio -= np.logaddexp(np.log(share), np.log(1 - share + 1e-12) + apart)
        return tuple(int(values[ratio.argmax()]) for values in candidates)

    def density(self, points: list[Codes]) -> Any:
        from parzen_estimator import MultiVariateParzenEstimator, build_categorical_parzen_estimator

        columns = np.array(points, dtype=np.int32).reshape(-1, len(NAMES)).T
        return MultiVariateParzenEstimator(
            {
                name: build_categorical_parzen_estimator(self.kinds[name], values, top=0.8, vals_is_indices=True)
                for name, values in zip(NAMES, columns, strict=True)
            }
        )

    def tell(self, point: Point, score: float) -> None:
        self.inside.append(as_codes(point))
        self.scores.append(score)


def ours(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    return OursPeer(Predictor(CHOICES, macs, limit, seed), macs, limit)


def ours_replicating(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    """Ours where the number of trials is known: leaders are scored more than once."""
    return OursPeer(Predictor(CHOICES, macs, limit, seed, trials=trials), macs, limit)


def repaired_tpe(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    return OptunaPeer(SAMPLERS["tpe"](CHOICES, macs, limit, seed), macs, limit)


def tpe(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    return OptunaPeer(TPESampler(seed=seed), macs, limit)


def gaussian_process(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    """Optuna's, in our wrapper: alone it proposes the same point outside the budget for ever."""
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    return OptunaPeer(SAMPLERS["gp"](CHOICES, macs, limit, seed), macs, limit)


def smac(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    return OptunaPeer(Smac(CHOICES, seed=seed, trials=10 * trials), macs, limit)


def random_points(macs: Macs, limit: float, seed: int, trials: int) -> Peer:
    return RandomPeer(macs, limit, seed)


class RandomPeer(Enumerating):
    """Any affordable point that was not tried."""

    def acquisition(self, left: NDArray[np.intp]) -> NDArray[np.float64]:
        return self.rng.random(len(left))


def luck_of(seed: int) -> random.Random:
    """What decides which of a network's three accuracies is told: the same row of draws for every sampler."""
    return random.Random(f"luck {seed}")
