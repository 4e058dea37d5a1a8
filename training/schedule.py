"""The learning rate of a step."""

from __future__ import annotations


def learning_rate(
    step: int, peak: float, warmup_steps: int, warm_from: int = 0, max_steps: int = 0, decay_steps: int = 0
) -> float:
    """Linear warm-up to ``peak`` at ``warmup_steps``, then peak * sqrt(warmup / step) (Vaswani 2017, equation 3); over
    the last ``decay_steps`` before ``max_steps``, where there are any, it falls in a line to zero (Hägele et al. 2024).

    ``step`` counts from 1. The paper's rate is this with peak = d_model^-0.5 * warmup^-0.5. A run that starts from
    bare weights at step ``warm_from`` warms up once more, to the rate that the schedule has by then.
    """
    rate = peak * min(1.0, (warmup_steps / step) ** 0.5) * min(1.0, (step - warm_from) / warmup_steps)
    return rate * min(1.0, (max_steps + 1 - step) / decay_steps) if decay_steps else rate
