from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from fake_translator import Document, FakeTranslator, Hypothesis, Translation
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import wait_until

from model.config import SearchConfig
from service.config import ServiceConfig
from service.jobs import Caller, How
from service.scheduler import DeadlineError, QueueFullError, Scheduler

GREEDY = SearchConfig(beam_size=1)


class Gate:
    """A scheduler whose model waits in front of the step that holds "gate", so that a queue builds up behind it."""

    def __init__(self, steps: int = 1, threads: int = 1, **limits: int) -> None:
        self.inside, self.opened = threading.Event(), threading.Event()
        self.translator = FakeTranslator(before=self._before, steps=steps)
        self.scheduler = Scheduler(ServiceConfig(**limits), threads=threads)  # type: ignore[arg-type]
        self.stepped: list[list[str]] = []

    def _before(self, texts: Sequence[str]) -> None:
        self.stepped.append(list(texts))
        if "gate" in texts and not self.opened.is_set():
            self.inside.set()
            self.opened.wait(timeout=10)
        if "poison" in texts:
            raise ValueError("poison")

    def submit(
        self,
        *texts: str,
        target: str = "de",
        search: SearchConfig = SearchConfig(),
        client: str = "a",
        call: int = 0,
        seconds: float = math.inf,
    ) -> list[Future[Any]]:
        source = "en" if target == "de" else "de"
        documents = [self.translator.prepare(text, source, target) for text in texts]
        how = How(self.translator, source, target, search)  # type: ignore[arg-type]
        return self.scheduler.submit(documents, how, Caller(client, call, time.monotonic() + seconds))  # type: ignore[arg-type]

    def shut(self) -> list[Future[Any]]:
        futures = self.submit("gate", client="gate")
        assert self.inside.wait(timeout=10)
        return futures


@pytest.fixture
def make_gate() -> Iterator[Callable[..., Gate]]:
    gates: list[Gate] = []

    def make(**options: int) -> Gate:
        gates.append(Gate(**options))
        return gates[-1]

    yield make
    for gate in gates:
        gate.opened.set()
        assert gate.scheduler.close(timeout=10)


def texts_of(futures: Sequence[Future[Any]]) -> list[str]:
    return [future.result(timeout=10).text for future in futures]


def test_what_waits_joins_as_one_group_and_the_same_sentence_once(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    futures = [gate.submit(f"a{i}", "same", client=str(i)) for i in range(3)]
    other = gate.submit("C", target="en")
    gate.opened.set()
    assert [texts_of(found) for found in futures] == [[f"A{i}", "SAME"] for i in range(3)]
    assert texts_of(other) == ["c"]
    assert gate.translator.calls[0] == ["gate"]
    assert sorted(gate.translator.calls[1]) == ["C", "a0", "a1", "a2", "same"]
    assert len(gate.translator.calls) == 2


def test_a_sentence_joins_a_running_pool(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(steps=3)
    book = gate.shut()
    small = gate.submit("x")
    gate.opened.set()
    assert texts_of(book + small) == ["GATE", "X"]
    assert gate.stepped == [["gate"], ["gate", "x"], ["gate", "x"], ["x"]]


def test_a_book_does_not_starve_a_sentence(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(pool_rows=64)
    gate.shut()
    book = gate.submit(*(f"page {i:04}" for i in range(200)), search=GREEDY, client="reader")
    small = gate.submit("x", search=GREEDY, client="guest")
    gate.opened.set()
    assert texts_of(small) == ["X"]
    assert len(texts_of(book)) == 200
    first = next(group for group in gate.translator.calls if "page 0000" in group)
    assert "x" in first
    assert all(len(group) <= 64 for group in gate.translator.calls)


def test_rows_are_limited_over_all_pools(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(pool_rows=64, steps=2)
    gate.shut()
    futures = [gate.submit(f"a{i}", search=SearchConfig(beam_size=1 + i % 16)) for i in range(100)]
    seen: list[int] = []
    gate.translator.before = lambda texts: seen.append(sum(gate.scheduler._live))
    gate.opened.set()
    for found in futures:
        texts_of(found)
    assert 0 < max(seen) <= 64


def test_a_cancelled_text_frees_its_rows_at_the_next_step(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(steps=100)
    book = gate.shut()
    other = gate.submit("other")
    assert book[0].cancel()
    gate.opened.set()
    assert texts_of(other) == ["OTHER"]
    assert gate.translator.dropped == ["gate"]
    assert gate.stepped[1] == ["other"]


def test_a_deadline_frees_rows_too(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(steps=3)
    gate.shut()
    gate.opened.set()
    late = gate.submit("late", seconds=0.05)
    gate.translator.before = lambda texts: time.sleep(0.06)
    with pytest.raises(DeadlineError):
        late[0].result(timeout=10)
    assert texts_of(gate.submit("next")) == ["NEXT"]


def test_the_queue_has_a_limit_and_what_is_cancelled_makes_room(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(queue_tokens=20)
    gate.shut()
    dropped = gate.submit("0123456789", "0123")
    with pytest.raises(QueueFullError, match="16 tokens are waiting for the model and 6 more would pass") as refused:
        gate.submit("abcde")
    assert refused.value.retry_seconds > 0
    for future in dropped:
        future.cancel()
    kept = gate.submit("abcdefghij")
    gate.opened.set()
    assert texts_of(kept) == ["ABCDEFGHIJ"]
    with pytest.raises(CancelledError):
        dropped[0].result(timeout=10)
    assert "0123456789" not in [text for group in gate.translator.calls for text in group]


def test_a_text_without_sentences_needs_no_room(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate(queue_tokens=10)
    gate.shut()
    gate.submit("012345678")  # ten tokens
    how = How(gate.translator, "en", "de", SearchConfig())  # type: ignore[arg-type]
    (blank,) = gate.scheduler.submit([Document(" ", (), ())], how, Caller("a", 1, math.inf))  # type: ignore[list-item]
    assert blank.done()


def test_a_deadline_that_cannot_be_met_is_refused(make_gate: Callable[..., Gate]) -> None:
    """Too large for an idle server: DeadlineError. Too much before it: QueueFullError, for later may be better."""
    gate = make_gate()
    gate.shut()
    gate.scheduler._speed = 50.0  # rows times steps a second: ten tokens a second with a beam of five
    with pytest.raises(DeadlineError, match="more than this server can do"):
        gate.submit("x" * 30, seconds=2)
    book = gate.submit("x" * 30, client="reader", seconds=60)
    with pytest.raises(QueueFullError, match="deadline cannot be met") as refused:
        gate.submit("y" * 30, client="guest", seconds=4)
    assert 1 < refused.value.retry_seconds < 4
    short = gate.submit("z" * 9, client="guest", seconds=4)  # has its turn before the book is through
    with pytest.raises(DeadlineError):
        gate.submit("late", seconds=-1)
    gate.opened.set()
    assert texts_of(book + short) == ["X" * 30, "Z" * 9]


def test_a_slow_start_is_not_believed_for_good(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.scheduler._speed = 5.0  # the warm-up met a busy machine
    with pytest.raises(DeadlineError, match="more than this server can do"):
        gate.submit("x" * 30, seconds=5)
    for i in range(20):  # one sentence at a time never fills a pool
        texts_of(gate.submit(f"a{i}"))
    assert texts_of(gate.submit("x" * 30, seconds=5)) == ["X" * 30]


def test_what_waits_counts_with_its_own_rows(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    gate.scheduler._speed = 50.0  # rows times steps a second
    wide = gate.submit("x" * 9, search=SearchConfig(beam_size=10), client="a", call=1)  # 10 tokens: 2 s
    with pytest.raises(QueueFullError, match=r"needs 2\.4 s"):  # 20 greedy ones behind them: 0.4 s
        gate.submit("y" * 19, search=GREEDY, client="a", call=1, seconds=2)
    greedy = gate.submit("y" * 19, search=GREEDY, client="a", call=1, seconds=10)
    gate.opened.set()
    assert texts_of(wide + greedy) == ["X" * 9, "Y" * 19]


def test_a_model_that_is_served_no_more_is_let_go(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    old = weakref.ref(gate.translator)
    gate.opened.set()
    assert texts_of(gate.submit("a") + gate.submit("b", search=GREEDY)) == ["A", "B"]
    gate.translator = FakeTranslator()
    wait_until(lambda: old() is None)  # the thread may still be in the turn that answered
    assert texts_of(gate.submit("c")) == ["C"]


def test_an_empty_pool_is_used_again(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    pools: list[SearchConfig] = []
    make = gate.translator.pool
    gate.translator.pool = lambda search: (pools.append(search), make(search))[1]  # type: ignore[method-assign]
    for i in range(3):
        assert texts_of(gate.submit(f"a{i}") + gate.submit(f"b{i}", search=GREEDY)) == [f"A{i}", f"B{i}"]
    assert len(pools) == len(set(pools)) == 2


@pytest.mark.parametrize("also_waiting", [0, 3])
def test_a_failing_step_fails_its_own_request_only(make_gate: Callable[..., Gate], also_waiting: int) -> None:
    gate = make_gate(steps=2)
    gate.shut()
    good = [gate.submit(f"good {i}") for i in range(also_waiting)]
    bad = gate.submit("poison")
    fine = gate.submit("fine", search=GREEDY)
    gate.opened.set()
    assert [texts_of(futures) for futures in good] == [[f"GOOD {i}"] for i in range(also_waiting)]
    assert texts_of(fine) == ["FINE"]
    with pytest.raises(ValueError, match="poison"):
        bad[0].result(timeout=10)
    assert texts_of(gate.submit("next")) == ["NEXT"]


def test_a_doubtful_sentence_has_a_second_look(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    assert texts_of(gate.submit("doubt", "sure")) == ["DOUBT'", "SURE"]
    assert gate.translator.calls == [["doubt", "sure"], ["doubt"]]


def test_close_finishes_what_is_queued(make_gate: Callable[..., Gate]) -> None:
    gate = make_gate()
    gate.shut()
    futures = gate.submit("a", "")
    assert not gate.scheduler.close(timeout=0)
    gate.opened.set()
    assert texts_of(futures) == ["A", ""]
    assert gate.scheduler.close(timeout=10)


@given(
    requests=st.lists(
        st.tuples(st.lists(st.text(max_size=6), min_size=1, max_size=6), st.sampled_from(["de", "en"])), max_size=12
    ),
    steps=st.integers(1, 3),
    threads=st.integers(1, 3),
    cancelled=st.sets(st.integers(0, 11)),
)
@settings(max_examples=40, deadline=None)
def test_every_request_gets_its_own_answers(
    requests: list[tuple[list[str], str]], steps: int, threads: int, cancelled: set[int]
) -> None:
    gate = Gate(pool_rows=192, steps=steps, threads=threads)
    gate.shut()
    answers = [gate.submit(*texts, target=target, call=i) for i, (texts, target) in enumerate(requests)]
    for i in cancelled & set(range(len(requests))):
        for future in answers[i]:
            future.cancel()
    gate.opened.set()
    for i, (texts, target) in enumerate(requests):
        if i not in cancelled:
            change = str.upper if target == "de" else str.lower
            assert texts_of(answers[i]) == [change(text) for text in texts]
    assert gate.scheduler.close(timeout=10)
    assert (gate.scheduler.waiting_tokens, gate.scheduler._jobs) == (0, set())
    assert not any(gate.scheduler._live)


def test_threads_share_what_waits(make_gate: Callable[..., Gate]) -> None:
    """While one thread is held up the other takes what comes; both together take halves."""
    gate = make_gate(threads=2)
    gate.shut()
    assert texts_of(gate.submit("x", "y", client="guest")) == ["X", "Y"]
    inside = threading.Barrier(2)
    gate.translator.before = lambda texts: (inside.wait(timeout=10), None)[1]  # each waits for the other's step
    gate.translator.calls.clear()
    gate.opened.set()
    futures = gate.submit(*(f"a{i}" for i in range(10)))
    assert texts_of(futures) == [f"A{i}" for i in range(10)]
    assert sorted(map(len, gate.translator.calls)) in ([5, 5], [4, 6])  # the gate may not have left its rows yet


class ByWords(FakeTranslator):
    """Every word is a sentence."""

    def prepare(self, text: str, *args: Any, **settings: Any) -> Document:
        sources = tuple((1, *map(ord, word)) for word in text.split())
        return Document(text, sources)

    def assemble(self, document: Document, results: Sequence[list[str]], search: SearchConfig) -> Translation:
        return Translation((Hypothesis(" ".join(nbest[0] for nbest in results), 0.0),))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_sentences_of_a_text_are_put_together_whichever_thread_found_them(threads: int) -> None:
    texts = [" ".join(f"w{i % 7}x{k}" for k in range(i % 9 + 1)) for i in range(200)]
    gate = Gate(pool_rows=192, threads=threads)
    gate.translator = ByWords()
    gate.translator.before = lambda words: time.sleep(0.0005)
    futures = [gate.submit(text, call=i)[0] for i, text in enumerate(texts)]
    assert texts_of(futures) == [text.upper() for text in texts]
    assert gate.scheduler.close(timeout=10)
