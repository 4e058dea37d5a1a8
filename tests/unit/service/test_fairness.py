from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.fairness import FairQueue

ITEMS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(1, 9)), max_size=40)
ROWS = 5


@given(ITEMS)
def test_everything_comes_out_once_and_in_the_order_of_its_call(items: list[tuple[int, int, int]]) -> None:
    queue: FairQueue[tuple[int, int, int, int]] = FairQueue()
    for number, (client, call, tokens) in enumerate(items):
        queue.push(client, call, (client, call, tokens, number), tokens, 1 + number % ROWS)
    assert (len(queue), queue.tokens) == (len(items), sum(tokens for _, _, tokens in items))
    assert queue.work == sum(tokens * (1 + number % ROWS) for number, (_, _, tokens) in enumerate(items))
    out = [queue.pop() for _ in range(len(items))]
    assert sorted(item[3] for item in out) == list(range(len(items)))
    for client, call, *_ in out:
        mine = [item[3] for item in out if item[:2] == (client, call)]
        assert mine == sorted(mine)
    assert (len(queue), queue.tokens, queue.work, queue.peek()) == (0, 0, 0, None)


@given(ITEMS, st.integers(0, 3), st.integers(0, 2))
def test_what_is_discarded_is_gone(items: list[tuple[int, int, int]], client: int, call: int) -> None:
    queue: FairQueue[tuple[int, int, int]] = FairQueue()
    for item in items:
        queue.push(item[0], item[1], item, item[2], ROWS)
    queue.discard(client, call, lambda item: item[2] > 4)
    kept = [item for item in items if item[:2] != (client, call) or item[2] <= 4]
    assert queue.tokens == sum(item[2] for item in kept)
    assert queue.work == ROWS * queue.tokens
    assert sorted(queue.pop() for _ in range(len(queue))) == sorted(kept)


def test_a_sentence_passes_a_book() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(100):
        queue.push("reader", 1, f"book {i}", 30, 1)
    assert queue.pop() == "book 0"
    queue.push("guest", 2, "sentence", 10, 1)
    queue.push("reader", 3, "the reader's own sentence", 10, 1)
    assert {queue.pop() for _ in range(4)} >= {"sentence", "the reader's own sentence"}


@given(st.integers(1, 20), st.integers(1, 20))
def test_two_clients_get_the_same_work_done(long: int, short: int) -> None:
    """Whatever the length and the rows of their sentences, neither is ever ahead by more than one sentence."""
    queue: FairQueue[str] = FairQueue()
    for _ in range(40):
        queue.push("a", 1, "a", long, 1)
        queue.push("b", 1, "b", short, ROWS)
    served = {"a": 0, "b": 0}
    for _ in range(30):
        who = queue.pop()
        served[who] += {"a": long, "b": short * ROWS}[who]
        assert abs(served["a"] - served["b"]) <= max(long, short * ROWS)


def test_how_much_comes_before() -> None:
    queue: FairQueue[str] = FairQueue()
    assert queue.ahead("a", 1, 7) == 7
    for _ in range(10):
        queue.push("b", 1, "book", 10, 1)
    assert queue.ahead("a", 1, 7) == 14  # b has as many turns meanwhile
    assert queue.ahead("a", 1, 1000) == 1100  # and no more than it needs
    queue.push("a", 2, "mine", 5, 1)
    assert queue.ahead("a", 1, 7) == 12 + 12


def test_nobody_saves_up_turns_while_away() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(50):
        queue.push("busy", 1, "busy", 10, 1)
    for _ in range(30):
        queue.pop()
    for _ in range(10):
        queue.push("late", 1, "late", 10, 1)
    served = [queue.pop() for _ in range(10)]
    assert abs(served.count("late") - served.count("busy")) <= 2  # not ten turns in a row
