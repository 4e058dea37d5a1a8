from __future__ import annotations

import pytest

from service.scaling import DAY, Autoscaler, Load, simulate


def test_the_day_has_as_many_words_as_it_should() -> None:
    load = Load(1e6, rate=100)
    total = sum(load.arrivals(second) for second in range(int(DAY)))
    assert total == pytest.approx(1e6)
    assert max(map(load.arrivals, range(0, int(DAY), 60))) == pytest.approx(load.peak * 1e6 / DAY)


def test_replicas_are_in_proportion() -> None:
    assert Load(1e3, rate=1000).service_replicas == 2  # one may fail
    small, large = Load(1e9, rate=1000), Load(1e12, rate=1000)
    assert large.service_replicas == pytest.approx(1000 * small.service_replicas, rel=0.1)
    assert small.batch_replicas < small.service_replicas


@pytest.mark.parametrize("scaler", [None, Autoscaler()])
def test_no_word_is_lost_and_the_peak_is_met(scaler: Autoscaler | None) -> None:
    load = Load(1e9, rate=1000)
    outcome = simulate(load, scaler)
    assert outcome.done + outcome.left == pytest.approx(1e9, rel=0.01)
    assert outcome.left < load.capacity * outcome.most
    assert outcome.median <= outcome.p99


def test_autoscaling_saves_machines_and_keeps_the_wait_short() -> None:
    load = Load(1e9, rate=1000)
    fixed, scaled = simulate(load), simulate(load, Autoscaler())
    assert fixed.p99 < 1
    assert scaled.replica_hours < 0.85 * fixed.replica_hours
    assert scaled.p99 < 60


def test_a_day_on_which_nothing_arrives() -> None:
    outcome = simulate(Load(1e-6, rate=1000), Autoscaler())
    assert (outcome.median, outcome.p99, outcome.left) == (0.0, 0.0, 0.0)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        Load(0, rate=1)
