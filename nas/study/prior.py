"""The prior: what networks of the ready spaces scored in searches before this one, elsewhere. It ships with us.

Which networks are better than which agrees between datasets in part (`experiments/search/results/prior.md`), so that a
search need not begin from nothing. Of every dataset the order counts and not the scores, as in a warm start.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from importlib import resources

import numpy as np
import optuna
from scipy.special import ndtri

from nas.config import SearchConfig
from nas.samplers.observations import lessons
from nas.samplers.predictor import START
from nas.study.records import adopt
from nas.study.warm_start import UNSURE_ELSEWHERE, Source, Sources, task
from searchspace.document import parse, plain
from searchspace.errors import InputError
from searchspace.space.choices import Scalar
from searchspace.space.space import ADAPTED, Point, Space

SPACES = ("mobile",)  # the ready spaces that there is a prior of
UNSURE_LIKE = 0.5  # more, of a network that is only like the one that was trained


def recall(space: Space) -> Sources:
    """What is known of a space's networks, or of those that they are like; nothing of a space of another kind."""
    found = []
    for name in SPACES:
        base = Space.load(name)
        for source in read(name).sources:
            own = [space.adopt(base, point) for point in source.points]
            like = own if all(own) else [project(point, space, base) for point in source.points]
            rows = zip(own, like, source.y, source.unsure, strict=True)
            kept = [(a or b, y, u if a else math.hypot(u, UNSURE_LIKE)) for a, b, y, u in rows if a or b]
            if kept:
                points, y, unsure = zip(*kept, strict=True)
                run = source.run if all(own) else f"{source.run}, moved to the nearest networks of this space"
                found.append(Source(run, source.budget, source.dataset, source.train, False, points, y, unsure))
    return Sources(tuple(found) if sum(len(source.y) for source in found) >= START else ())


def project(point: Point, space: Space, base: Space) -> dict[str, Scalar] | None:
    """The point of a narrowed space that is most like one of the space that it was made of: what it does not offer is
    the nearest that it does. None where it is no such space."""
    stages = [[stage.stride for stage in one.network.stages] for one in (space, base)]
    if stages[0] != stages[1] or not space.choices.keys() <= {*base.choices, *ADAPTED}:
        return None
    known = {name: getattr(base.network, name) for name in ADAPTED} | dict(point)
    return {name: nearest(known[name], options) for name, options in space.choices.items()}


def nearest(value: Scalar, options: Sequence[Scalar]) -> Scalar:
    """The value itself where it is offered, of numbers the nearest, of words the first."""
    if value in options:
        return options[options.index(value)]
    if isinstance(value, (int, float)) and all(isinstance(option, (int, float)) for option in options):
        return min(options, key=lambda option: abs(float(option or 0) - float(value)))
    return options[0]


def read(name: str) -> Sources:
    """The file of a ready space: the names of its choices, and of every point the values in that order."""
    file = resources.files("nas") / "study" / "priors" / f"{name}.json"
    data = json.loads(file.read_text(encoding="utf-8"))
    names = data.pop("names")
    for source in data["sources"]:
        source["points"] = [dict(zip(names, values, strict=True)) for values in source["points"]]
    return parse(Sources, data, f"{name}.json")


def learn(name: str, runs: Iterable[tuple[SearchConfig, optuna.Study]], space: Space) -> Source:
    """What the trials of runs of one task teach together; `InputError` where they are of several, or of none."""
    from scipy.stats import rankdata

    known = list(runs)
    if not known:
        raise InputError("prior: at least one run is accepted")
    identity = known[0][0].identity
    if any(task(config.identity) != task(identity) for config, _ in known):
        raise InputError("prior: runs of one budget, dataset and recipe are accepted")
    trials = [
        trial for config, study in known for trial in adopt(study.get_trials(deepcopy=False), config.space, space)
    ]
    taught = lessons(trials, maximize=True)
    y = ndtri((rankdata(taught.y) - 0.5) / len(taught.y))
    unsure = np.hypot(taught.unsure, UNSURE_ELSEWHERE)
    rows = [tuple(np.round(row, 4).tolist()) for row in (y, unsure)]
    return Source(
        name, identity.budget, identity.data.dataset, plain(identity.train), False, tuple(taught.points), *rows
    )


def text_of(sources: Sources) -> str:
    """The text of such a file, a line per point."""
    data = plain(sources)
    names = list(data["sources"][0]["points"][0])
    lines = [f'{{"names": {json.dumps(names)}, "sources": [']
    for source in data["sources"]:
        rows = [json.dumps([point[name] for name in names]) for point in source.pop("points")]
        lines += [json.dumps(source)[:-1] + ', "points": [', ",\n".join(rows), "]},"]
    return "\n".join([*lines[:-1], "]}", "]}"]) + "\n"
