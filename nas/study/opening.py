"""What the study of a run begins with, and how it is opened."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nas.config import SearchConfig
from nas.study import warm_start
from nas.study.design import Design
from nas.study.proposals import Proposal, baselines_within
from nas.study.storage import StudyLocation
from nas.study.study import Study
from searchspace.document import plain
from searchspace.space.space import Space


def open_study(
    run: Path,
    config: SearchConfig,
    space: Space | None = None,
    taught: warm_start.Sources | None = None,
    place: StudyLocation | None = None,
    design: Callable[..., Design] = Design,
) -> Study:
    """The study of a run's configuration, to ask and tell."""
    i = config.identity
    of = design(
        space=space or config.space,
        budget=config.budget,
        sampler=i.sampler,
        seed=i.seed,
        band=i.band,
        controls=i.controls,
        baselines=i.baselines,
        evidence=taught.evidence if taught else (),
        minimize=i.minimize,
        metric=i.metric,
        horizon=i.horizon,
    )
    shared = shared_identity(config, of.space) if place and place.url else {}
    return Study.begin(run, of, place, shared)


def shared_identity(config: SearchConfig, space: Space) -> dict[str, Any]:
    """What else has to be equal for two drivers, each with a folder of its own, to work on one study."""
    i = config.identity
    said = {name: plain(getattr(i, name)) for name in ("data", "train", "sampler", "seed", "band", "warm_start")}
    said["data"] = plain(replace(i.data, base=""))
    if i.prescreen.draws > 1:
        said["prescreen"] = plain(i.prescreen)
    if i.prior:
        said["prior"] = True
    if i.horizon:
        said["horizon"] = True
    if i.evaluate:
        said["evaluate"] = i.evaluate
    if (config.budget.limits_latency or "latency" in i.minimize) and space.latency is not None:
        said["latency_table"] = hashlib.sha256(json.dumps(plain(space.latency)).encode()).hexdigest()[:16]
    return said


def with_known(config: SearchConfig, space: Space) -> SearchConfig:
    """As many baselines as textbook networks fit, which of a latency only a space with layer times can say."""
    i = config.identity
    known = len(textbook_networks(space, config))
    return replace(config, identity=replace(i, baselines=known))


def textbook_networks(space: Space, config: SearchConfig) -> list[Proposal]:
    """Those that a search begins with."""
    i = config.identity
    return list(itertools.islice(baselines_within(space, config.budget, i.band, i.minimize), i.baselines))
