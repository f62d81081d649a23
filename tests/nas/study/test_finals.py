"""Finals: who enters, who goes on, what they name and say; that this is the better network and not the luckier one."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from nas.analysis import finals as shown
from nas.samplers import ExhaustedError
from nas.study.attributes import check_study
from nas.study.finals import (
    HELD,
    FinalProposals,
    Finals,
    Round,
    best_first,
    best_of,
    both_kinds,
    contenders,
    effort,
    finals_of,
    is_same,
    number_of_finalists,
    rounds,
)
from nas.study.proposals import WaitingError
from nas.study.study import Study
from nas.trial import Final, Result, Trial, TrialRecord, rank
from nas.views.page import last_two
from searchspace import Cost, InputError
from tests.nas.study.test_study import opened
from tests.support.records import record

EPOCHS = 4
IMAGES = 400


def trial(number: int, score: float, role: str = "search", **fields: object) -> TrialRecord:
    baseline = f"net{number}" if role == "baseline" else ""
    return record(number, score=score, role=role, digest=str(number), baseline=baseline, **fields)


def trained(of: TrialRecord, played: Round, score: float, **fields: object) -> TrialRecord:
    final = Final(of.number, played.number, played.epochs, played.fold)
    flat = dict.fromkeys(range(1, played.epochs + 1), score)
    return replace(of, **{"score": score, "final": final, "curve": flat, **fields})  # type: ignore[arg-type]


def held(trials: list[TrialRecord], score: Callable[[TrialRecord, Round], float], finalists: int = 4) -> Finals:
    """The finals of trials, of whose trainings these are the scores."""
    finals = Finals(tuple(contenders(trials, finalists)), (), rounds(EPOCHS))
    for played in finals.rounds:
        now = [trained(network, played, score(network, played)) for network in finals.entrants(played.number)]
        finals = replace(finals, trainings=(*finals.trainings, *now))
    assert finals.over
    return finals


def test_few_trials_have_no_finals_and_many_have_four_finalists() -> None:
    assert [number_of_finalists(None, trials) for trials in (1, 11, 12, 16, 32, 1000)] == [0, 0, 1, 2, 4, 4]
    assert [number_of_finalists(finalists, 2) for finalists in (0, 3)] == [0, 3]


def test_the_best_enter_with_textbook_networks_and_a_random_one() -> None:
    trials = [trial(n, 0.5 + n / 100) for n in range(6)]
    trials += [trial(10 + n, 0.3 + n / 100, "baseline") for n in range(3)] + [trial(20, 0.2, "control")]
    trials += [record(30, "pruned", 0.9, digest="30"), record(31, "failed", None, digest="31")]
    assert [one.number for one in contenders(trials, 4)] == [5, 4, 3, 2, 12, 11, 20]
    assert [one.number for one in contenders(trials, 3)] == [5, 4, 3, 12, 11, 20]
    assert [one.number for one in contenders(trials, 1)] == [5, 12, 20]
    assert [one.number for one in contenders([*trials, trial(21, 0.99, "control")], 2)] == [21, 5, 12]
    assert contenders(trials[-2:], 4) == []


def test_a_textbook_network_and_another_go_on_where_there_are_both() -> None:
    networks = [trial(n, 0.5) for n in range(4)] + [trial(9, 0.1, "baseline")]
    assert [one.number for one in both_kinds(networks, 2)] == [0, 9]
    assert [one.number for one in both_kinds(networks[::-1], 2)] == [9, 3]
    assert [one.number for one in both_kinds(networks[:3], 2)] == [0, 1]


def test_rounds_grow_shorter_and_longer() -> None:
    trials = [trial(n, 0.5 + n / 100) for n in range(6)] + [trial(8, 0.4, "baseline"), trial(9, 0.3, "control")]
    finals = held(trials, lambda network, played: network.score or 0.0)
    sizes = [len(finals.entrants(played.number)) for played in finals.rounds]
    assert sizes == [6, 4, 2, 2]
    assert sum(sizes) == finals.number_of_trainings == finals.number_ended == len(finals.trainings)
    assert [played.epochs for played in finals.rounds] == [6, 10, 10, 10]
    assert [played.fold for played in finals.rounds] == [0, 0, 1, 2]
    assert [one.number for one in finals.last] == [5, 8]
    assert finals.winner.number == 5
    assert [one.number for one in finals.standing] == [5, 8, 4, 3, 2, 9]


@pytest.mark.parametrize(("networks", "sizes"), [(1, [0, 0, 1, 1]), (2, [0, 0, 2, 2]), (4, [0, 4, 2, 2])])
def test_a_round_that_decides_nothing_is_left_out(networks: int, sizes: list[int]) -> None:
    trials = [trial(n, 0.5 + n / 100) for n in range(networks)]
    finals = held(trials, lambda network, played: network.score or 0.0)
    assert [len(finals.entrants(played.number)) for played in finals.rounds] == sizes
    assert finals.number_of_trainings == len(finals.trainings)
    assert not Finals((), (), rounds(EPOCHS)).over


@pytest.mark.parametrize("finalists", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("textbook", [0, 1, 3])
def test_what_they_take_is_known_before(finalists: int, textbook: int) -> None:
    trials = [trial(n, 0.9 - n / 100) for n in range(8)] + [trial(40, 0.2, "control")]
    trials += [trial(20 + n, 0.5 + n / 100, "baseline") for n in range(textbook)]
    finals = held(trials, lambda network, played: network.score or 0.0, finalists)
    trained = [one.final.epochs for one in finals.trainings if one.final]
    assert effort(finalists, EPOCHS, textbook) == (len(trained), sum(trained))
    assert effort(0, EPOCHS, textbook) == (0, 0)


def test_a_training_that_failed_comes_last_and_equals_by_their_cost() -> None:
    cheap, dear = trial(0, 0.5), trial(1, 0.5, cost=Cost(9_000_000, 1, 1, 1))
    finals = held([cheap, dear], lambda network, played: 0.7)
    assert finals.winner == cheap
    broken = [replace(one, state="failed", score=None) if one.number == 0 else one for one in finals.trainings]
    finals = replace(finals, trainings=tuple(broken))
    assert finals.over
    assert finals.winner == dear
    nothing = [replace(one, state="failed", score=None) for one in finals.trainings]
    assert best_of([cheap, dear], replace(finals, trainings=tuple(nothing))) == cheap


def test_only_rounds_that_measured_both_are_compared() -> None:
    """The textbook network failed in one round, whose images were the easier ones: .95 beside .93 in the other."""
    trials = [trial(0, 0.6), trial(1, 0.5, "baseline")]

    def score(network: TrialRecord, played: Round) -> float:
        return (0.95 if network.number else 0.93) + 0.04 * (played.fold == 1)

    finals = held(trials, score)
    broken = [
        replace(one, state="failed", score=None, error="out of memory: 3 GiB")
        if one.number and one.final and one.final.fold == 1
        else one
        for one in finals.trainings
    ]
    finals = replace(finals, trainings=tuple(broken))
    assert finals.winner.number == 1
    first, second, third = shown.sentences(finals)[:3]
    assert "net1 (trial 1): validation accuracy 0.9500" in first
    assert second == (
        "1 training of the finals failed (net1 (trial 1): out of memory: 3 GiB); the same command tries again."
    )
    assert "trial 0 (search) has 0.9300: a difference of +0.0200" in third


def test_what_failed_of_a_network_that_is_in_no_more_is_not_tried_for_ever() -> None:
    finals = held([trial(0, 0.6), trial(1, 0.5, "baseline")], lambda network, played: 0.7)
    other = replace(trained(trial(9, 0.4), finals.rounds[0], 0.1), state="failed", score=None)
    finals = replace(finals, trainings=(*finals.trainings, other))
    assert finals.failed == []
    assert not finals.unfinished


def test_finals_that_measured_nothing_say_so() -> None:
    finals = held([trial(0, 0.6), trial(1, 0.5, "baseline")], lambda network, played: 0.7)
    failed = [replace(one, state="failed", score=None, error="timeout: 9 s") for one in finals.trainings]
    finals = replace(finals, trainings=tuple(failed))
    assert shown.sentences(finals) == [
        "4 trainings of the finals failed (trial 0 (search), net1 (trial 1): timeout: 9 s), so that brief scores alone "
        "name the best network; the same command tries again."
    ]


def test_trainings_that_failed_are_tried_again_by_the_next_command(tmp_path: Path) -> None:
    with searched(tmp_path) as study, study.open_finals() as trainings:
        finals = Finals(tuple(contenders(study.records, 4)), (), rounds(EPOCHS))
        trainings.proposals = FinalProposals(trainings.design, finals)
        with suppress(ExhaustedError):
            while True:
                one = trainings.ask()
                assert one.final
                bad = one.final.fold == 1
                trainings.tell(one, error="out of memory") if bad else told(trainings, one, one.cost.macs / 1e9)
        finals = replace(finals, trainings=tuple(trainings.records))
        assert finals.over
        assert finals.unfinished
        assert len(finals.failed) == 2
        trainings.proposals = FinalProposals(trainings.design, finals)
        for _ in range(2):  # they fail once more
            trainings.tell(trainings.ask(), error="out of memory")
        finals = replace(finals, trainings=tuple(trainings.records))
        assert len(finals.failed) == 4
        assert "2 trainings of the finals failed" in " ".join(shown.sentences(finals))
        trainings.proposals = FinalProposals(trainings.design, finals)
        to_their_end(trainings, lambda one: one.cost.macs / 1e9)
        again = replace(finals, trainings=tuple(trainings.records))
        assert len(again.trainings) == len(finals.trainings) + 2
        assert again.failed == []
        assert not again.unfinished
        assert all(len(again.last_trainings(network)) == 2 for network in again.last)


def test_the_epochs_are_those_that_were_made() -> None:
    finals = held([trial(0, 0.5)], lambda network, played: 0.7)
    assert "the mean of trainings of 10 epochs from 2 fresh seeds" in shown.sentences(finals)[0]
    ended = [replace(one, curve={1: one.score or 0.0}) for one in finals.trainings]
    assert "trainings of 1 epoch from" in shown.sentences(replace(finals, trainings=tuple(ended)))[0]


def test_which_of_the_last_two_is_much_faster_is_said() -> None:
    def last(first: float | None, second: float | None) -> str:
        costs = [Cost(1_000_000, 1, 1, 1, latency_ms=ms) for ms in (first, second)]
        trials = [trial(0, 0.5, cost=costs[0]), trial(1, 0.5, "baseline", cost=costs[1])]
        return shown.sentences(held(trials, lambda network, played: 0.7 - network.number / 9))[-1]

    said = "One image is predicted to take trial 0 (search) 3.2 ms, net1 (trial 1) 7.5 ms."
    assert last(3.23, 7.5) == said
    assert last(7.5, 3.23) == "One image is predicted to take net1 (trial 1) 3.2 ms, trial 0 (search) 7.5 ms."
    for pair in ((3.2, 3.3), (None, 7.5), (None, None)):
        assert "predicted" not in last(*pair)


def test_of_equal_networks_the_textbook_one_is_named() -> None:
    cheap, dear = trial(0, 0.5), trial(1, 0.5, "baseline", cost=Cost(9_000_000, 1, 1, 1))
    finals = held([cheap, dear], lambda network, played: 0.7)
    assert finals.winner == dear
    said = " ".join(shown.sentences(finals))
    assert "The search found nothing better than net1, which is named instead." in said
    assert "Of equal networks the textbook one is named." in said
    before = replace(finals, textbook_first=False)
    assert before.winner == cheap, "runs of before keep what they named"
    said = " ".join(shown.sentences(before))
    assert "a difference of +0.0000. That is no difference from net1" in said
    assert "ahead" not in said
    assert Finals.of([cheap, dear], finals.trainings, finals.kept) == finals
    old = {key: value for key, value in finals.kept.items() if key != "textbook_first"}
    assert Finals.of([cheap, dear], finals.trainings, old).winner == cheap


def test_they_name_the_better_network_and_print_what_it_is_worth() -> None:
    """500 searches whose networks' true scores are known. Best brief scores are luck in good part: their networks are
    worse than those that finals name, and the scores far too good. What finals print is neither."""
    rng = np.random.default_rng(0)
    lucky, named, printed, promised, gains, told = [], [], [], [], [], []
    for _ in range(500):
        true = dict(enumerate([*rng.normal(0.5, 0.03, 44), *rng.normal(0.54, 0.01, 4)]))
        roles = ["control"] * 11 + ["search"] * 33 + ["baseline"] * 4
        trials = [trial(n, true[n] + rng.normal(0, 0.03), roles[n]) for n in true]
        finals = held(trials, lambda network, played, t=true: t[network.number] + rng.normal(0, 0.012))
        best, winner = rank(trials)[0], finals.winner
        lucky.append(true[best.number])
        promised.append(best.score - true[best.number])
        named.append(true[winner.number])
        found = shown.duel(finals)
        assert found
        assert found.difference is not None
        printed.append(found.score - true[winner.number])
        other = finals.last[1]
        told.append(found.difference - (true[winner.number] - true[other.number]))
        gains.append(true[winner.number] - max(true[n] for n in range(44, 48)))
    assert fmean(named) > fmean(lucky) + 0.005
    assert fmean(promised) > 0.02
    assert abs(fmean(printed)) < 0.004
    assert abs(fmean(told)) < 0.008
    assert fmean(gains) > 0
    assert np.quantile(gains, 0.05) > -0.02


@pytest.mark.parametrize(("noise", "least", "most"), [(0.0, 0.87, 1.0), (0.01, 0.85, 1.0), (0.04, 0.85, 0.98)])
def test_the_interval_holds_the_true_difference_nine_times_in_ten(noise: float, least: float, most: float) -> None:
    """Whether seeds hardly matter, beside the draw of the images, or more than that."""
    rng, inside = np.random.default_rng(1), 0
    a, b = trial(0, 0.5), trial(1, 0.5, "baseline")

    def training(network: TrialRecord, share: float, hard: np.ndarray) -> TrialRecord:  # type: ignore[type-arg]
        right = rng.random(IMAGES) < np.clip(share + rng.normal(0, noise) + hard, 0, 1)
        return replace(network, score=float(right.mean()), correct=f"{IMAGES}:{np.packbits(right).tobytes().hex()}")

    for _ in range(400):
        folds = [rng.normal(0, 0.2, IMAGES) for _ in range(4)]
        own, theirs = ([training(n, share, hard) for hard in folds] for n, share in ((a, 0.62), (b, 0.6)))
        rounds = [x.score - y.score for x, y in zip(own, theirs, strict=True) if x.score and y.score]
        low, high = shown.difference_interval(own[2:], theirs[2:], rounds) or (1.0, 1.0)
        inside += low <= 0.02 <= high
        assert low < high
    assert least <= inside / 400 <= most


def test_nothing_known_of_noise_is_no_interval() -> None:
    a, b = trial(0, 0.5), trial(1, 0.4, "baseline")
    assert shown.difference_interval([a], [b], [0.1]) is None
    low, high = shown.difference_interval([a, a], [b, b], [0.1, 0.2]) or (0.0, 0.0)
    assert (low + high) / 2 == pytest.approx(0.1)
    assert high - low == pytest.approx(2 * 6.314 * 0.05, abs=1e-3)


def test_what_they_say() -> None:
    def said(ours: float, textbook: float, kept: bool = True) -> str:
        right = {ours: np.arange(IMAGES) < ours * IMAGES, textbook: np.arange(IMAGES) >= (1 - textbook) * IMAGES}
        trials = [trial(3, 0.7), trial(4, 0.6, "baseline")]
        of = dict(zip((3, 4), (ours, textbook), strict=True))
        finals = held(trials, lambda network, _: of[network.number])
        bits = {n: f"{IMAGES}:{np.packbits(one).tobytes().hex()}" if kept else "" for n, one in right.items()}
        full = [replace(one, correct=bits[of[one.number]]) for one in finals.trainings]
        return " ".join(shown.sentences(replace(finals, trainings=tuple(full))))

    better = said(0.65, 0.5)
    assert (
        "The best is trial 3 (search): validation accuracy 0.6500, the mean of trainings of 10 epochs from 2" in better
    )
    assert "800 images that had decided nothing before" in better
    assert "net4 (trial 4) has 0.5000: a difference of +0.1500 [" in better
    assert "is better than net4, the best textbook network" in said(0.9, 0.5)
    assert "no reliable difference from net4" in said(0.505, 0.5)
    assert "nothing better than net4, which is named instead" in said(0.5, 0.6)
    assert "by how much is not known" in said(0.65, 0.5, kept=False)
    assert "shrank" not in better
    alone = held([trial(0, 0.5)], lambda *_: 0.6)
    assert shown.sentences(alone)[0].startswith("Finals: 1 network")
    two = held([trial(0, 0.5), trial(1, 0.5)], lambda network, _: 0.6)
    assert "No textbook network" in shown.sentences(two)[1]


@pytest.mark.parametrize(
    ("slower", "epochs", "says"),
    [
        (
            0.5,
            12,
            "shrank as both were trained: +0.1412 over epochs 2 to 6, +0.0200 after 10. Trained for longer, net4 (t",
        ),
        (0.05, 12, ""),  # most of it is left
        (-0.5, 12, ""),  # it grows
        (0.5, 5, ""),  # too few to see
    ],
)
def test_a_lead_that_shrinks_is_said_and_seen(slower: float, epochs: int, says: str) -> None:
    """The textbook network begins lower by `slower`, and has nearly caught up with the other at the end."""
    finals = held([trial(3, 0.7), trial(4, 0.6, "baseline")], lambda network, _: 0.7 if network.number == 3 else 0.68)
    full = []
    for one in finals.trainings:
        late = {e: (epochs - e) / (epochs - 1) for e in range(1, epochs + 1)}
        curve = {e: one.score - (0.0 if one.final.of == 3 else slower * left / 3) for e, left in late.items()}
        full.append(replace(one, curve=curve))
    finals = replace(finals, trainings=tuple(full))
    last = shown.sentences(finals)[-1]
    assert says in last if says else "shrank" not in last
    assert finals.winner.number == (4 if says else 3)
    assert replace(finals, by_trend=False).winner.number == 3, "as runs of before named theirs"
    trials = [trial(3, 0.7), trial(4, 0.6, "baseline")]
    assert Finals.of(trials, finals.trainings, finals.kept).winner == finals.winner
    assert all(len(line) == epochs for line in finals.curves(finals.last))
    assert "Lines that draw near may cross" in last_two(finals)


def test_best_first_is_the_finals_order_then_the_scores() -> None:
    trials = [trial(n, 0.5 + n / 100) for n in range(9)]
    finals = held(trials, lambda network, _: 1 - (network.score or 0.0))
    order = [one.number for one in best_first(trials, finals)]
    assert order[0] == finals.winner.number == 5
    assert sorted(order) == list(range(9))
    assert order[-5:] == [4, 3, 2, 1, 0]
    assert [one.number for one in best_first(trials, None)] == list(range(8, -1, -1))
    assert best_of(trials, None) == trials[8]
    assert best_of([], None) is None


def told(study: Study, one: object, score: float, epochs: int = 1) -> None:
    study.report(one, Result(epoch=epochs, score=score, correct="8:ff"))  # type: ignore[arg-type]
    study.tell(one, score)  # type: ignore[arg-type]


def to_their_end(trainings: Study, score: Callable[[Trial], float]) -> None:
    """Carry out what is left of finals."""
    with suppress(ExhaustedError):
        while True:
            one = trainings.ask()
            told(trainings, one, score(one))


def searched(folder: Path, trials: int = 7) -> Study:
    study = opened(folder)
    for number in range(trials):
        told(study, study.ask(), 0.5 + number / 100)
    return study


def test_their_study_asks_round_by_round_and_is_taken_up_where_it_was_cut_off(tmp_path: Path) -> None:
    rng = random.Random(0)
    with searched(tmp_path) as study:
        chosen = tuple(contenders(study.records, 4))
        assert len(chosen) == 5
        with study.open_finals() as trainings:
            finals = Finals(chosen, (), rounds(EPOCHS))
            trainings.proposals = FinalProposals(trainings.design, finals)
            first = [trainings.ask() for _ in range(4)]
            assert [one.final.round for one in first if one.final] == [1] * 4
            assert [one.digest for one in first] == [one.digest for one in chosen[:4]]
            last = trainings.ask()
            with pytest.raises(WaitingError):
                trainings.ask()  # who goes on is not known before all have ended
            for one in first:
                told(trainings, one, rng.random())
            del last  # it was running when the process died
        assert study.finals is None
        with study.open_finals() as trainings:
            assert [one.error for one in trainings.records if one.state == "failed"] == []
            trainings.proposals = FinalProposals(trainings.design, finals)
            again = trainings.ask()
            assert again.final
            assert (again.digest, again.final.round) == (chosen[4].digest, 1)
            told(trainings, again, 0.0)
            to_their_end(trainings, lambda one: rng.random())
            finals = replace(finals, trainings=tuple(trainings.records))
            assert finals.over
            assert len(finals.trainings) == finals.number_of_trainings == 5 + 4 + 2 + 2
            trainings.keep(HELD, finals.kept)
        assert study.finals == finals
        assert study.best.number == finals.winner.number
        assert study.finished == 7  # their trainings are no trials
        assert {one.correct for one in finals.trainings} == {"8:ff"}
    read = Study.read(tmp_path)
    assert read.finals == finals
    assert finals_of(read.optuna) == finals


def test_workers_lost_in_other_rounds_are_not_counted_against_a_training(tmp_path: Path) -> None:
    """Of one network finals make up to four trainings. That a machine is taken away once in each is no fault of it."""
    with searched(tmp_path) as study:
        finals = Finals(tuple(contenders(study.records, 4)), (), rounds(EPOCHS))
        with study.open_finals() as trainings:
            trainings.proposals = FinalProposals(trainings.design, finals)
            lost: dict[tuple[str, int], int] = {}
            with suppress(ExhaustedError):
                while True:
                    one = trainings.ask()
                    assert one.final
                    key = one.digest, one.final.round
                    if lost.setdefault(key, 0) < 2:
                        lost[key] += 1
                        assert trainings.interrupt(one), key  # it is asked again
                    else:
                        told(trainings, one, 0.5 + one.cost.params / 1e9)
            assert {one.state for one in trainings.records} == {"complete"}
            assert replace(finals, trainings=tuple(trainings.records)).over


def test_finals_of_more_trials_use_the_trainings_that_there_are(tmp_path: Path) -> None:
    with searched(tmp_path) as study:
        with study.open_finals() as trainings:
            finals = Finals(tuple(contenders(study.records, 4)), (), rounds(EPOCHS))
            trainings.proposals = FinalProposals(trainings.design, finals)
            to_their_end(trainings, lambda one: one.cost.macs / 1e9)
            trainings.keep(HELD, replace(finals, trainings=tuple(trainings.records)).kept)
        before = study.finals
        assert before
        told(study, study.ask(), 0.99)
        assert study.finals == before  # a new score is not compared with what was trained longer
        assert study.best.number == before.winner.number
        with study.open_finals() as trainings:
            finals = Finals(tuple(contenders(study.records, 4)), tuple(trainings.records), rounds(EPOCHS))
            assert [one.number for one in finals.missing(finals.rounds[0])] == [7]


def test_those_that_were_measured_stay_in() -> None:
    trials = [trial(n, 0.5 + n / 100) for n in range(9)] + [trial(20, 0.4, "baseline")]
    held_before = held(trials, lambda network, _: 1 - (network.score or 0.0))
    assert [one.number for one in held_before.last] == [20, 5]
    later = [*trials, *(trial(30 + n, 0.9) for n in range(4))]
    assert {one.number for one in contenders(later, 1)} == {30, 20}
    assert {one.number for one in contenders(later, 1, held_before)} == {30, 20, 5}


def test_a_training_is_the_same_whichever_trial_has_its_network() -> None:
    assert is_same(Final(3, 1, 6, 0), Final(8, 1, 6, 0))
    assert not is_same(Final(3, 1, 6, 0), Final(3, 1, 9, 0))
    assert not is_same(None, Final(3, 1, 6, 0))


def test_contenders_are_trials_of_the_search_however_few_the_trainings_are() -> None:
    trials = [trial(n, 0.5 + n / 1000) for n in range(40, 44)] + [trial(90, 0.4, "baseline")]
    finals = held(trials, lambda network, played: network.score or 0.0)
    check_study({HELD: finals.kept}, "finals")
    assert Finals.of(trials, finals.trainings, finals.kept) == finals
    with pytest.raises(InputError, match="their contenders are no trials of the search; the study is damaged"):
        Finals.of(trials[:-1], finals.trainings, finals.kept)
