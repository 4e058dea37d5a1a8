from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from fake_translator import FakeTranslator
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import SearchConfig
from service.config import ServiceConfig
from service.scheduler import DeadlineError, How, QueueFullError, Scheduler

EN_DE, DE_EN = How("en", "de", SearchConfig()), How("de", "en", SearchConfig())
NEVER = math.inf


class Gate:
    """Holds the model thread inside its first call after the warm-up, so that a queue builds up behind it."""

    def __init__(self, **limits: int) -> None:
        self.inside, self.opened = threading.Event(), threading.Event()
        self.translator = FakeTranslator(before=self._before)
        self.scheduler = Scheduler(lambda: self.translator, ServiceConfig(**{"max_characters": 1, **limits}))  # type: ignore[arg-type,return-value]
        self.scheduler.start().result(timeout=5)

    def _before(self, texts: Sequence[str]) -> None:
        if "gate" in texts:
            self.inside.set()
            self.opened.wait(timeout=5)
        if "poison" in texts:
            raise ValueError("poison")

    def shut(self) -> Future[Any]:
        future = self.scheduler.submit(["gate"], EN_DE, NEVER)
        assert self.inside.wait(timeout=5)
        return future

    def calls(self) -> list[list[str]]:
        """What the model was given, without the warm-up and the gate."""
        return self.translator.calls[2:]


@pytest.fixture
def make_gate() -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make(**limits: int) -> Gate:
        gates.append(Gate(**limits))
        return gates[-1]

    yield make
    for gate in gates:
        gate.opened.set()
        assert gate.scheduler.close(timeout=5)


def texts_of(future: Future[Any]) -> list[str]:
    return [translation.text for translation in future.result(timeout=5)]


def test_requests_that_wait_share_a_call(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    futures = [gate.scheduler.submit([f"a{i}", f"b{i}"], EN_DE, NEVER) for i in range(3)]
    other = gate.scheduler.submit(["C"], DE_EN, NEVER)
    last = gate.scheduler.submit(["d"], EN_DE, NEVER)
    gate.opened.set()
    assert [texts_of(future) for future in futures] == [[f"A{i}", f"B{i}"] for i in range(3)]
    assert (texts_of(other), texts_of(last)) == (["c"], ["D"])
    assert gate.calls() == [["a0", "b0", "a1", "b1", "a2", "b2", "d"], ["C"]]


def test_a_large_request_lets_a_small_one_through(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(batch_characters=4)
    gate.shut()
    book = gate.scheduler.submit(["a", "b", "c", "d", "e", "too long", "f"], EN_DE, NEVER)
    small = gate.scheduler.submit(["x"], EN_DE, NEVER)
    gate.opened.set()
    assert texts_of(book) == ["A", "B", "C", "D", "E", "TOO LONG", "F"]
    assert texts_of(small) == ["X"]
    assert gate.calls() == [["a", "b", "c", "d"], ["x", "e"], ["too long"], ["f"]]


def test_what_is_cancelled_is_not_computed_and_makes_room(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(queue_characters=10)
    gate.shut()
    dropped = gate.scheduler.submit(["0123456789"], EN_DE, NEVER)
    with pytest.raises(QueueFullError, match="10 characters are waiting for the model, the limit is 10"):
        gate.scheduler.submit(["a"], EN_DE, NEVER)
    assert dropped.cancel()
    kept = gate.scheduler.submit(["abcdefghij"], EN_DE, NEVER)
    gate.opened.set()
    assert texts_of(kept) == ["ABCDEFGHIJ"]
    with pytest.raises(CancelledError):
        dropped.result(timeout=5)
    assert gate.calls() == [["abcdefghij"]]


def test_a_request_past_its_deadline_is_not_computed(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    late = gate.scheduler.submit(["late"], EN_DE, time.monotonic() + 0.01)
    time.sleep(0.02)
    gate.opened.set()
    with pytest.raises(DeadlineError):
        late.result(timeout=5)
    assert texts_of(gate.scheduler.submit(["next"], EN_DE, NEVER)) == ["NEXT"]
    assert gate.calls() == [["next"]]


def test_one_bad_text_fails_its_own_request_only(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    good, bad, fine = (gate.scheduler.submit([text], EN_DE, NEVER) for text in ("good", "poison", "fine"))
    gate.opened.set()
    assert (texts_of(good), texts_of(fine)) == (["GOOD"], ["FINE"])
    with pytest.raises(ValueError, match="poison"):
        bad.result(timeout=5)


def test_close_finishes_what_is_queued(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    future = gate.scheduler.submit(["a"], EN_DE, NEVER)
    assert not gate.scheduler.close(timeout=0)
    gate.opened.set()
    assert texts_of(future) == ["A"]
    assert gate.scheduler.close(timeout=5)


def test_a_model_that_cannot_be_loaded() -> None:
    def load() -> Any:
        raise ValueError("corrupt")

    scheduler = Scheduler(load, ServiceConfig())
    with pytest.raises(ValueError, match="corrupt"):
        scheduler.start().result(timeout=5)
    assert scheduler.translator is None
    assert scheduler.close(timeout=5)


@given(
    requests=st.lists(
        st.tuples(st.lists(st.text(max_size=6), min_size=1, max_size=6), st.sampled_from([EN_DE, DE_EN]))
    ),
    budget=st.integers(1, 12),
)
@settings(max_examples=50)
def test_every_request_gets_its_own_answers(requests: list[tuple[list[str], How]], budget: int) -> None:
    gate = Gate(batch_characters=budget)
    gate.shut()
    futures = [gate.scheduler.submit(texts, how, NEVER) for texts, how in requests]
    gate.opened.set()
    for (texts, how), future in zip(requests, futures, strict=True):
        change = str.upper if how == EN_DE else str.lower
        assert texts_of(future) == [change(text) for text in texts]
    assert gate.scheduler.close(timeout=5)
    assert gate.scheduler._waiting == 0
    for call in gate.calls():
        assert len(call) == 1 or sum(max(1, len(text)) for text in call) <= budget
