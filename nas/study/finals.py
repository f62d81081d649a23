"""Finals: the network that a search names is decided by longer trainings from fresh seeds.

The best of many brief scores is the luckiest as much as the best. So the best few networks, the best textbook networks
and the best random one are trained again, in rounds of fewer and longer trainings (successive halving, Jamieson &
Talwalkar 2016). The first rounds decide which two go on, a textbook network among them. The last ones measure these
two, each round on validation images that have decided nothing before, and name the better: what is printed of it is
free of the luck of being chosen of many (the winner's curse), and has that of the better of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from statistics import fmean
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from nas.config import FEWEST_TRIALS, FINALISTS, TRIALS_PER_FINALIST, SearchConfig
from nas.samplers import ExhaustedError
from nas.study import storage
from nas.study.design import Design
from nas.study.horizon import promises
from nas.study.proposals import Proposal, Proposals, WaitingError
from nas.study.records import is_interrupted, training_of, trial_record, trial_records
from nas.trial import Final, TrialRecord, rank, training
from searchspace.errors import InputError
from searchspace.space.space import Candidate

TEXTBOOK_PER, CONTROLS = 2, 1  # finalists per textbook network
LONGER, LONGEST = 1.5, 2.5  # epochs, as multiples of a trial's
GOING_ON, LAST = 4, 2  # networks after the first round and after the second
FEWEST_EPOCHS = 6  # in which a lead can be seen to shrink
SHRUNK = 0.5  # what is left of it, where it would be gone after about four times the epochs
HELD = "held"  # the attribute of their study that says who took part in those that are over


@dataclass(frozen=True, slots=True)
class Round:
    """Each of its networks is trained once for so many epochs, from a seed of its own. `fold` 0 is
    the trials' own validation images, others have decided nothing before, and with `equal` as many images are trained
    on as in trials (see `Split.fold`)."""

    number: int
    epochs: int
    fold: int
    equal: bool = False


def rounds(epochs: int) -> tuple[Round, ...]:
    """The rounds after trials of so many epochs."""
    longer, longest = math.ceil(LONGER * epochs), math.ceil(LONGEST * epochs)
    return tuple(Round(*one, equal=True) for one in ((1, longer, 0), (2, longest, 0), (3, longest, 1), (4, longest, 2)))


def number_of_finalists(finalists: int | None, trials: int) -> int:
    """How many networks enter the finals of so many trials, beside textbook and random ones; 0 is no finals."""
    if finalists is not None:
        return finalists
    return 0 if trials < FEWEST_TRIALS else min(FINALISTS, trials // TRIALS_PER_FINALIST)


def finalists(config: SearchConfig) -> int:
    """How many networks enter the finals of a search, beside textbook and random ones; 0 is none held."""
    return 0 if config.identity.minimize else number_of_finalists(config.conduct.finalists, config.conduct.trials)


def textbook_entrants(finalists: int) -> int:
    """How many textbook networks enter: which of them is the best, brief scores say no better than of others."""
    return max(1, math.ceil(finalists / TEXTBOOK_PER))


def contenders(
    trials: Sequence[TrialRecord], finalists: int, held: Finals | None = None, by_horizon: bool = False
) -> list[TrialRecord]:
    """Who enters: the best `finalists` of the complete trials, the best textbook networks, the best random network; and
    the last two of finals that were held before, since what they measured counts more than a brief score.

    The best by their scores, or `by_horizon` by what these promise (see `nas.study.horizon`)."""
    complete = rank(trials)
    if by_horizon:
        promised = promises([one.gain or 0.0 for one in complete], [one.cost.activations for one in complete])
        order = sorted(range(len(complete)), key=lambda place: -promised[place])
        complete = [complete[place] for place in order]
    found = [trial for trial in complete if trial.role != "baseline"][:finalists]
    found += [trial for trial in complete if trial.role == "baseline"][: textbook_entrants(finalists)]
    if not any(trial.role == "control" for trial in found):
        found += [trial for trial in complete if trial.role == "control"][:CONTROLS]
    known = {trial.number for trial in found}
    return rank([*found, *(trial for trial in (held.last if held else ()) if trial.number not in known)])


def effort(finalists: int, epochs: int, textbook: int) -> tuple[int, int]:
    """How many trainings finals are after trials of so many epochs, and how many epochs in all; so many `textbook`
    networks are there to enter."""
    if not finalists:
        return 0, 0
    enter = finalists + min(textbook, textbook_entrants(finalists)) + CONTROLS
    trained = sizes(enter, rounds(epochs))
    return sum(trained.values()), sum(size * played.epochs for played, size in trained.items())


def sizes(networks: int, of: Sequence[Round]) -> dict[Round, int]:
    """How many of so many networks are trained in each round; none in one that would decide nothing."""
    first, second, *last = of
    deciding = {first: networks * (networks > GOING_ON), second: min(networks, GOING_ON) * (networks > LAST)}
    return deciding | dict.fromkeys(last, min(networks, LAST))


@dataclass(frozen=True, slots=True)
class Lead:
    """By how much one network was better than another in the same trainings: on average over their early epochs, from
    the second to this one, and at their end."""

    until: int
    early: float
    last: float

    @property
    def shrinks(self) -> bool:
        """Whether so little of it is left that longer trainings may turn it."""
        return abs(self.last) <= SHRUNK * abs(self.early)


@dataclass(frozen=True, slots=True)
class Finals:
    """Contenders, the rounds, and the trainings so far."""

    contenders: tuple[TrialRecord, ...]
    trainings: tuple[TrialRecord, ...]
    rounds: tuple[Round, ...]
    by_trend: bool = True  # whether a lead that shrinks names the other network; not in runs of before
    textbook_first: bool = True  # whether of equal networks the textbook one is named; not in runs of before

    @classmethod
    def of(cls, trials: Sequence[TrialRecord], trainings: Sequence[TrialRecord], kept: Mapping[str, Any]) -> Finals:
        """From what their study keeps, of the trials of the search; `InputError` where it names others."""
        known = {trial.number: trial for trial in trials}
        if not known.keys() >= set(kept["contenders"]):
            raise InputError("finals: held: their contenders are no trials of the search; the study is damaged")
        contenders = tuple(known[number] for number in kept["contenders"])
        played = tuple(Round(*one) for one in kept["rounds"])
        flags = (kept.get(name, False) for name in ("by_trend", "textbook_first"))
        return cls(contenders, tuple(trainings), played, *flags)

    @property
    def kept(self) -> dict[str, Any]:
        """What their study keeps of them, beside the trainings."""
        rounds = [list(astuple(played)) for played in self.rounds]
        contenders = [trial.number for trial in self.contenders]
        flags = {"by_trend": self.by_trend, "textbook_first": self.textbook_first}
        return {"contenders": contenders, "rounds": rounds, **flags}

    def training(self, contender: TrialRecord, played: Round) -> TrialRecord | None:
        """What its training in a round came to, once that is complete."""
        wanted = final_of(contender, played)
        for one in self.trainings:
            if one.digest == contender.digest and one.state == "complete" and is_same(one.final, wanted):
                return one
        return None

    def entrants(self, number: int) -> list[TrialRecord]:
        """Who is trained in a round, once those before are over; nobody in one that would decide nothing."""
        networks = list(self.contenders)
        before: list[Round] = []
        for played, most in zip(self.rounds, (GOING_ON, LAST), strict=False):
            decides = len(networks) > most
            if number == played.number:
                return networks if decides else []
            if decides:
                before.append(played)
                networks = both_kinds(self.best_first(networks, before), most)
        return networks

    def best_first(self, networks: Sequence[TrialRecord], after: Sequence[Round]) -> list[TrialRecord]:
        """By the mean gain of these rounds; one whose training failed is last, of equals the textbook network is first,
        then the cheaper one."""

        def key(network: TrialRecord) -> tuple[float, bool, int]:
            gains = [one.gain if (one := self.training(network, played)) else None for played in after]
            failed = any(gain is None for gain in gains)
            mean = math.inf if failed else -fmean(gain or 0.0 for gain in gains)
            return mean, self.textbook_first and network.role != "baseline", network.cost.macs

        return sorted(networks, key=key)

    def missing(self, played: Round) -> list[TrialRecord]:
        """The networks of a round whose training has not ended."""
        ended = {training(one.digest, one.final) for one in self.trainings if one.state != "running"}
        entrants = self.entrants(played.number)
        return [one for one in entrants if training(one.digest, final_of(one, played)) not in ended]

    @property
    def failed(self) -> list[TrialRecord]:
        """The trainings of those who are in a round that failed, however often, and were not made good since."""
        wanted = {
            training(network.digest, final_of(network, played))
            for played in self.rounds
            for network in self.entrants(played.number)
            if self.training(network, played) is None
        }
        return [one for one in self.trainings if one.state == "failed" and training(one.digest, one.final) in wanted]

    @property
    def unfinished(self) -> bool:
        """Whether something is left to train: in a round, or once more since it failed."""
        return not self.over or bool(self.failed)

    @property
    def over(self) -> bool:
        return bool(self.contenders) and not any(self.missing(played) for played in self.rounds)

    @property
    def number_of_trainings(self) -> int:
        """How many trainings they take in all."""
        return sum(sizes(len(self.contenders), self.rounds).values())

    @property
    def number_ended(self) -> int:
        """How many of them have ended."""
        return sum(
            len(self.entrants(one.number)) - len(self.missing(one)) for one in self.rounds if self._has_begun(one)
        )

    def _has_begun(self, played: Round) -> bool:
        """Whether the rounds before are over, so that it is known who is trained."""
        return not any(self.missing(one) for one in self.rounds[: played.number - 1])

    @property
    def mean_epochs(self) -> int:
        """Of a training, about."""
        return round(fmean(played.epochs for played in self.rounds))

    @property
    def last(self) -> list[TrialRecord]:
        """Those of the last rounds, first the one that is named: the better one, but a textbook network where the
        other is no better, or its lead shrinks, since a network that learns faster is not yet one that is better when
        trained in full."""
        entrants = self.entrants(self.measuring[0].number)
        found = self.best_first(entrants, self._choose_rounds(entrants))
        went = self.lead(found)
        if self.by_trend and went and went.shrinks and found[1].role == "baseline":
            found.reverse()
        return found

    @property
    def measuring(self) -> list[Round]:
        """The last rounds, on images that have decided nothing before."""
        return [played for played in self.rounds if played.fold]

    def _choose_rounds(self, networks: Sequence[TrialRecord]) -> list[Round]:
        """The last rounds whose trainings of all these are complete: others compare nothing. All where none are."""
        shared = [played for played in self.measuring if all(self.training(one, played) for one in networks)]
        return shared or self.measuring

    @property
    def winner(self) -> TrialRecord:
        """The network that the search names."""
        return self.last[0]

    @property
    def standing(self) -> list[TrialRecord]:
        """All contenders: the winner first, then by how far they came and how well they did there."""
        found, deciding = list(self.last), [played for played in self.rounds if not played.fold]
        for played in reversed(deciding):
            entrants = self.best_first(self.entrants(played.number), [played])
            found += [one for one in entrants if one not in found]
        return found

    def lead(self, networks: Sequence[TrialRecord]) -> Lead | None:
        """How the lead of the first of two networks of the last rounds went; None where too few epochs show it, or
        where it began behind. What it was early is as free of the luck of being chosen as what it was at the end."""
        lines = self.curves(networks)
        if len(lines) != 2 or len(lines[0]) < FEWEST_EPOCHS:
            return None
        apart = [one - other for one, other in zip(*lines, strict=True)]
        until = len(apart) // 2
        found = Lead(until, fmean(apart[1:until]), apart[-1])
        return found if networks[0].metric.gain(found.early) > 0 else None

    def curves(self, networks: Sequence[TrialRecord]) -> list[list[float]]:
        """Of each network the mean score of the last rounds after every epoch that all their trainings had."""
        trained = [[one.curve for one in self.last_trainings(network)] for network in networks]
        epochs = 0
        while all(trained) and all(epochs + 1 in curve for kept in trained for curve in kept):
            epochs += 1
        return [[fmean(curve[e] for curve in kept) for e in range(1, epochs + 1)] for kept in trained]

    def last_trainings(self, network: TrialRecord) -> list[TrialRecord]:
        """Its complete trainings of the last rounds, of those that measured all who were in them."""
        measured = self._choose_rounds(self.entrants(self.measuring[0].number))
        found = (self.training(network, played) for played in measured)
        return [one for one in found if one is not None]


def final_of(network: TrialRecord, played: Round) -> Final:
    """A network's training in a round."""
    return Final(network.number, played.number, played.epochs, played.fold, played.equal)


def is_same(one: Final | None, other: Final) -> bool:
    """Whether two trainings of one network are the same, whichever trial has that network."""
    return one is not None and (one.round, one.epochs, one.fold) == (other.round, other.epochs, other.fold)


def both_kinds(networks: Sequence[TrialRecord], number: int) -> list[TrialRecord]:
    """So many of the first, with one textbook network and one that is none among them, where there are both."""
    chosen = list(networks[:number])
    for textbook in (True, False):
        own = [network for network in networks if (network.role == "baseline") == textbook]
        if own and own[0] not in chosen:
            chosen[-1] = own[0]
    return chosen


def best_of(trials: Sequence[TrialRecord], finals: Finals | None) -> TrialRecord | None:
    """The network that a search names: the winner of its finals, else the best of its scores; None before there is
    one."""
    return next(iter(best_first(trials, finals)), None)


def best_first(trials: Sequence[TrialRecord], finals: Finals | None) -> list[TrialRecord]:
    """The complete trials: those of the finals as they stand there, unless these measured nothing, then by score."""
    first = finals.standing if finals and finals.last_trainings(finals.winner) else []
    return first + [trial for trial in rank(trials) if trial not in first]


def finals_of(study: optuna.Study) -> Finals | None:
    """The finals that a search held last; None where none were held, or they are not over."""
    found = storage.load_finals(study)
    kept = found.user_attrs.get(HELD) if found else None
    return Finals.of(trial_records(study), trial_records(found), kept) if found and kept else None


def trainings_of(study: optuna.Study) -> list[TrialRecord]:
    """The trainings of a search's finals so far, whether these are over or not."""
    found = storage.load_finals(study)
    return trial_records(found) if found else []


class FinalProposals(Proposals):
    """What finals ask: the trainings of a round, once those before are over."""

    def __init__(self, design: Design, finals: Finals) -> None:
        super().__init__(design)
        self.finals = finals
        self.again = {one.number for one in finals.failed}  # those that failed in earlier commands

    def next(self, trials: list[FrozenTrial]) -> Proposal:
        """The first training that nobody has taken. Raises `WaitingError` where it is not known before those that run
        have ended, `ExhaustedError` where all have."""
        known = [trial for trial in trials if not is_interrupted(trial) and trial.number not in self.again]
        taken = {training_of(trial) for trial in known}
        records = [trial_record(trial, self.design.metric) for trial in known]
        finals = replace(self.finals, trainings=tuple(records))
        for played in finals.rounds:
            left = finals.missing(played)
            for network in left:
                final = final_of(network, played)
                if training(network.digest, final) not in taken:
                    return proposal_of(network, final)
            if left:
                raise WaitingError
        raise ExhaustedError("the finals are over")


def proposal_of(network: TrialRecord, final: Final) -> Proposal:
    """A trial's network to be trained again."""
    settled = tuple(map(int, network.settled.split()))
    candidate = Candidate(network.point, network.arch, network.cost, network.width_mult, settled)
    return Proposal(candidate, network.role, network.baseline, final=final)
