"""A coordinator without Ray: a carrier that is a dictionary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nas.study.drivers import StorageError
from nas.study.study import Study
from nas.trial import Result, Trial
from nas.workers import coordinator
from nas.workers.coordinator import Coordinator, FailuresError
from searchspace import Budget, InputError, Space
from tests.nas.study.test_study import opened
from tests.searchspace.space.test_space import SMALL

EPOCHS = 3


class Notes:
    """A watcher that writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def started(self, trial: Trial) -> None:
        self.said.append(f"{trial.number} started")

    def epoch(self, trial: Trial, result: Result) -> None:
        self.said.append(f"{trial.number} epoch {result.epoch}")

    def ended(self, trial: Trial, outcome: str, result: Result) -> None:
        self.said.append(f"{trial.number} {outcome} {result.epoch}")

    def stopping(self) -> None:
        self.said.append("stopping")


def begun(folder: Path, total: int, study: Study | None = None) -> tuple[Coordinator, list[str]]:
    notes = Notes()
    folder.mkdir(exist_ok=True)
    return Coordinator(study or opened(folder), total, EPOCHS, notes, folder / "checkpoints"), notes.said


def measured(epoch: int, **changes: object) -> Result:
    return Result(**{"epoch": epoch, "score": epoch / 10, "loss": 1.0, "last": epoch == EPOCHS, **changes})


def test_trials_are_asked_until_there_are_enough_and_reported_once(tmp_path: Path) -> None:
    a_course, said = begun(tmp_path, 2)
    assert [trial.number for name in "ab" if (trial := a_course.ask(name))] == [0, 1]
    assert a_course.ask("c") is None
    assert not a_course.over  # a trial that is still running may be lost, and asked again
    for epoch in range(1, EPOCHS):
        a_course.report("a", measured(epoch))
    a_course.end("a", measured(EPOCHS))
    a_course.end("b", measured(1, last=False))
    a_course.report("b", measured(2))  # late
    assert a_course.over
    assert a_course.ask("c") is None
    assert a_course.close(limited=False) == ""
    told = ["0 epoch 1", "0 epoch 2", "0 epoch 3", "0 complete 3", "1 epoch 1", "1 pruned 1"]
    assert said == ["0 started", "1 started", *told]
    assert [(o.state, o.curve) for o in a_course.study.records] == [
        ("complete", {1: 0.1, 2: 0.2, 3: 0.3}),
        ("pruned", {1: 0.1}),
    ]


def test_a_trial_whose_process_died_is_asked_again(tmp_path: Path) -> None:
    a_course, said = begun(tmp_path, 1)
    first = a_course.ask("a")
    a_course.report("a", measured(1))
    a_course.end("a", None, died=True)
    again = a_course.ask("b")
    assert first
    assert again
    assert again.digest == first.digest
    a_course.end("b", measured(EPOCHS))
    assert a_course.close(limited=False) == ""
    assert said == ["0 started", "0 epoch 1", "0 interrupted 1", "1 started", "1 epoch 3", "1 complete 3"]


@pytest.mark.parametrize("limited", [False, True])
def test_what_a_stop_cuts_off_is_closed_as_interrupted_and_first_next_time(tmp_path: Path, limited: bool) -> None:
    a_course, said = begun(tmp_path, 5)
    cut, ended = a_course.ask("a"), a_course.ask("b")
    assert cut
    assert ended
    a_course.stop.set()
    a_course.end("a", measured(1, last=False))
    a_course.end("b", measured(EPOCHS))  # which had ended by itself
    assert a_course.ask("c") is None
    assert a_course.over
    assert a_course.close(limited=limited) == "stopped"
    assert a_course.study.waiting == [cut.digest]
    assert said == ["0 started", "1 started", "1 epoch 3", "1 complete 3"]
    a_course.study.close()
    other, _ = begun(tmp_path, 5)
    asked = other.ask("a")
    assert asked
    assert asked.digest == cut.digest


def test_files_that_a_folder_of_checkpoints_leads_to_stay(tmp_path: Path) -> None:
    """Of finals too: in a folder that a stranger has made it may be a link, and what is not waited for is removed."""
    a_course, _ = begun(tmp_path / "run", 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("mine")
    a_course.checkpoints.symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="checkpoints: a file or folder of its own"), a_course.checkpointing():
        pass
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "mine"


def test_a_course_ends_with_its_time_or_with_its_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_course, _ = begun(tmp_path / "a", 5)
    a_course.ask("a")
    assert a_course.close(limited=True) == "time limit"
    monkeypatch.setattr("nas.study.proposals.DRAWS", 300)
    space = Space(SMALL, "small").fix(["stage2.expansion=4", "stage2.kernel=3"])
    study = opened(tmp_path / "b", space=space, budget=Budget.parse("1-2MFLOPs"), sampler="random")
    a_course, said = begun(tmp_path / "b", 1000, study)
    while a_course.ask(str(len(said))):
        pass
    assert a_course.over  # though trials are running
    assert a_course.exhausted
    assert "nothing new inside 1-2MFLOPs" in a_course.close(limited=False)
    assert 1 < len(said) < 1000


def test_a_course_whose_trials_mostly_fail_is_broken_with_the_reason(tmp_path: Path) -> None:
    a_course, _ = begun(tmp_path, 20)
    for index in range(coordinator.FAILED_OF):
        assert not a_course.broken
        assert a_course.ask(str(index))
        a_course.end(str(index), measured(1, error="diverged: loss is nan", last=True))
    assert a_course.ask("more") is None
    with pytest.raises(FailuresError, match="8 of 8 trials failed"):
        a_course.close(limited=False)


def test_a_study_that_cannot_be_written_ends_the_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_course, said = begun(tmp_path, 5)
    a_course.ask("a")

    def full(*arguments: object, **options: object) -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(a_course.study, "report", full)
    a_course.report("a", measured(1))
    assert a_course.over
    assert a_course.ask("b") is None
    a_course.report("a", measured(2))
    with pytest.raises(StorageError, match="disk full"):
        a_course.close(limited=False)
    assert said == ["0 started"]


def test_checkpoints_of_what_will_be_asked_again_are_kept_and_no_others(tmp_path: Path) -> None:
    a_course, _ = begun(tmp_path, 2)
    cut, ended = a_course.ask("a"), a_course.ask("b")
    assert cut
    assert ended
    with a_course.checkpointing():
        for trial in (cut, ended):
            (a_course.checkpoints / f"{trial.digest}.safetensors").touch()
        (a_course.checkpoints / "other.safetensors").touch()
        a_course.end("b", measured(EPOCHS))
        a_course.stop.set()
        a_course.close(limited=False)
    a_course.study.close()
    with begun(tmp_path, 2)[0].checkpointing():
        assert [path.stem for path in a_course.checkpoints.iterdir()] == [cut.digest]


def at_the_rung(a_course: Coordinator, name: str, accuracy: float, epoch: int = 2) -> bool:
    """As Ray does it: a trial is asked, has trained, and is reported, or ended where it is to be stopped."""
    assert a_course.ask(name)
    result = Result(epoch=epoch, score=accuracy, loss=1.0)
    behind = a_course.behind(name, result)
    if behind:
        a_course.end(name, result)
    else:
        a_course.report(name, result)
    return behind


def long(folder: Path, **options: Any) -> Coordinator:
    """Trials of six epochs: the rung is after the second."""
    study = opened(folder, sampler="random", **options)
    study.validation_images = 400
    return Coordinator(study, 40, 6, Notes(), folder / "checkpoints")


def test_known_networks_are_never_stopped_early_and_others_once_a_handful_have_scored(tmp_path: Path) -> None:
    a_course = long(tmp_path, controls=4, baselines=1)
    found = [at_the_rung(a_course, f"{index}", 0.9) for index in range(6)]
    found += [at_the_rung(a_course, "behind", 0.1), at_the_rung(a_course, "close", 0.89)]
    assert found == [False] * 6 + [True, False]
    outcomes = a_course.study.records
    assert [o.state for o in outcomes] == ["running"] * 6 + ["pruned", "running"]
    assert outcomes[6].curve == {2: 0.1}
    assert not a_course.behind("close", measured(3, score=0.0)), "trials are compared at one epoch only"
    baseline = next(o.number for o in outcomes if o.role == "baseline")
    assert not a_course.behind(str(baseline), Result(epoch=2, score=0.0))
    assert not a_course.behind("nobody", Result(epoch=2, score=0.0))
    assert not a_course.behind("close", Result(epoch=2, error="diverged"))
    a_course.stop.set()
    assert not a_course.behind("close", Result(epoch=2, score=0.0)), "it will be asked again"


def test_controls_are_stopped_by_the_rule_of_the_search(tmp_path: Path) -> None:
    a_course = long(tmp_path, controls=12)
    found = [at_the_rung(a_course, f"{index}", 0.9 if index < 6 else 0.1) for index in range(8)]
    assert found == [False] * 6 + [True] * 2
    assert {o.role for o in a_course.study.records} == {"control"}


def test_a_run_that_is_carried_on_knows_what_trials_had_scored(tmp_path: Path) -> None:
    a_course = long(tmp_path)
    for index in range(6):
        assert not at_the_rung(a_course, f"{index}", 0.9)
        a_course.end(f"{index}", Result(epoch=6, score=0.95, last=True))
    a_course.close(limited=True)
    a_course.study.close()
    assert at_the_rung(long(tmp_path), "0", 0.1)


def test_what_was_interrupted_or_failed_is_no_rival(tmp_path: Path) -> None:
    a_course = long(tmp_path)
    for index in range(8):
        assert not at_the_rung(a_course, f"{index}", 0.9)
        lost = index % 2
        a_course.end(f"{index}", None if lost else Result(epoch=3, error="diverged", last=True), died=bool(lost))
    assert not at_the_rung(a_course, "8", 0.1)


def test_short_trials_are_all_complete(tmp_path: Path) -> None:
    a_course, _ = begun(tmp_path, 20, opened(tmp_path, sampler="random"))  # of three epochs
    assert not any(at_the_rung(a_course, f"{index}", 0.9 - index / 20) for index in range(12))


def test_a_cheap_network_of_a_front_is_compared_with_those_that_cost_no_more(tmp_path: Path) -> None:
    a_course = long(tmp_path, minimize=("macs",))
    for index in range(12):
        assert a_course.ask(f"{index}")
    spent = {o.number: o.minimized["macs"] for o in a_course.study.records}
    cheapest, dearest = min(spent, key=spent.__getitem__), max(spent, key=spent.__getitem__)
    for number in spent:
        if number not in (cheapest, dearest):
            a_course.report(f"{number}", Result(epoch=2, score=0.9))
    assert not a_course.behind(f"{cheapest}", Result(epoch=2, score=0.1))
    assert a_course.behind(f"{dearest}", Result(epoch=2, score=0.1))


def test_a_study_that_cannot_be_read_stops_nobody_and_ends_the_course(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_course = long(tmp_path)
    assert a_course.ask("a")

    def gone(study: Study) -> None:
        raise StorageError("gone")

    monkeypatch.setattr(Study, "trials", property(gone))
    assert not a_course.behind("a", Result(epoch=2, score=0.1))
    with pytest.raises(StorageError, match="gone"):
        a_course.close(limited=False)
