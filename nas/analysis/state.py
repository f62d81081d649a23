"""How far a run is: finished, running or stopped, and which trials did not end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nas.data.labelled import count_of
from nas.trial import TrialRecord


@dataclass(frozen=True, slots=True)
class State:
    """`wanted` trials are the run's total, of which `ended` have ended and `running` have begun. `alive` says whether a
    search works on them now, None where that cannot be seen. `interruptions` are sentences about trials that began and
    were lost (see `records.interruption_sentences`). `asked`: its caller asks for as many as it likes. Of finals
    `trainings` have ended and `in_training` have begun; they are `due` where they are not over.
    """

    ended: int
    wanted: int
    running: tuple[int, ...] = ()
    interruptions: tuple[str, ...] = ()
    alive: bool | None = False
    asked: bool = False
    trainings: int = 0
    in_training: int = 0
    due: bool = False

    @property
    def unfinished(self) -> bool:
        return self._has_trials_left or self.due

    @property
    def _has_trials_left(self) -> bool:
        return self.ended < self.wanted or bool(self.running)

    @property
    def sentences(self) -> list[str]:
        return [self._progress(), *self.interruptions]

    def _progress(self) -> str:
        if self.asked:
            begun = f"; {list_trials(self.running).lower()} asked and not told" if self.running else ""
            return f"Asked and told by its caller: {count_of(self.ended, 'trial')} ended{begun}."
        done = f"{self.ended} of {self.wanted} trials ended"
        if not self._has_trials_left and (self.due or self.in_training):
            done += f"; its finals are not over, {count_of(self.trainings, 'training')} ended"
        if self.alive:
            number = len(self.running) if self._has_trials_left else self.in_training
            now = f", {number} {'is' if number == 1 else 'are'} being trained" if number else ""
            return f"The search is running: {done}{now}."
        if not self.unfinished:
            return f"The search is finished: {done}."
        begun = f"; {list_trials(self.running).lower()} began and did not end" if self.running else ""
        if self.alive is None:
            return f"The search is not finished: {done}{begun}."
        return f"The search has stopped: {done}{begun}. The same command carries on."


def state(
    trials: Sequence[TrialRecord],
    wanted: int | None,
    interruptions: Sequence[str],
    alive: bool | None,
    finals: Sequence[TrialRecord] = (),
    due: bool = False,
) -> State:
    """How far a run is of the `wanted` trials; None where its caller asks for as many as it likes. `finals` are their
    trainings, and `due` says whether these are not over."""
    running = tuple(trial.number for trial in trials if trial.state == "running")
    ended, trained = len(trials) - len(running), sum(one.state != "running" for one in finals)
    of_trials = ended, max(ended, wanted or 0), running  # a later command may have asked for fewer
    return State(*of_trials, tuple(interruptions), alive, wanted is None, trained, len(finals) - trained, due)


def list_trials(numbers: Sequence[int]) -> str:
    """`Trial 3`, or `Trials 3, 4 and 9`; of many the first."""
    if len(numbers) == 1:
        return f"Trial {numbers[0]}"
    if len(numbers) > 10:
        return f"Trials {', '.join(map(str, numbers[:9]))} and {len(numbers) - 9} more"
    return f"Trials {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
