"""The learning rate of a step."""

from __future__ import annotations


def learning_rate(step: int, peak: float, warmup_steps: int, warm_from: int = 0) -> float:
    """Linear warm-up to ``peak`` at ``warmup_steps``, then peak * sqrt(warmup / step) (Vaswani 2017, equation 3).

    ``step`` counts from 1. The paper's rate is this with peak = d_model^-0.5 * warmup^-0.5. A run that starts from
    bare weights at step ``warm_from`` warms up once more, to the rate that the schedule has by then.
    """
    decayed = peak * min(1.0, (warmup_steps / step) ** 0.5)
    return decayed * min(1.0, (step - warm_from) / warmup_steps)
