from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.schedule import learning_rate


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.sampled_from([256, 512]))
def test_equals_the_papers_formula(step: int, warmup: int, d_model: int) -> None:
    peak = d_model**-0.5 * warmup**-0.5
    wanted = d_model**-0.5 * min(step**-0.5, step * warmup**-1.5)
    assert learning_rate(step, peak, warmup) == pytest.approx(wanted)


def test_rises_to_the_peak_and_falls_from_there() -> None:
    rates = [learning_rate(step, 2e-3, 100) for step in range(1, 1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates.index(max(rates)) == 99
    assert rates[99] == 2e-3
    assert rates[399] == pytest.approx(1e-3)


@given(st.integers(0, 10**5), st.integers(1, 1000), st.integers(1, 5000))
def test_a_warm_start_rises_again_to_the_same_curve(start: int, warmup: int, after: int) -> None:
    rate = learning_rate(start + after, 1e-3, warmup, warm_from=start)
    usual = 1e-3 * min(1.0, (warmup / (start + after)) ** 0.5)
    assert rate == pytest.approx(usual * min(1.0, after / warmup))


@given(st.integers(1, 500), st.integers(0, 500))
def test_falls_to_zero_at_the_end(decay: int, start: int) -> None:
    limit = start + 1000
    rates = [learning_rate(step, 1e-3, 100, start, limit, decay) for step in range(start + 1, limit + 2)]
    usual = [learning_rate(step, 1e-3, 100, start) for step in range(start + 1, limit + 2)]
    assert rates[: 1001 - decay] == usual[: 1001 - decay]  # until then as without
    shares = [rate / one for rate, one in zip(rates, usual, strict=True)][1000 - decay :]
    assert shares == pytest.approx([1 - k / decay for k in range(decay + 1)])
