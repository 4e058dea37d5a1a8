"""How many machines a load takes, and how long texts wait: a model of replicas behind one queue.

    python -m service.scaling --words-a-day 1e9 --rate 1500

``rate`` is measured: the words of an `nmt translate` job by its seconds and by its threads. Requests arrive as a
Poisson process whose rate follows the hour of the day; a replica serves one batch at a time; an autoscaler looks at
how long the head of the queue has waited, as docs/scaling.md proposes. Time goes in steps, so that a billion words are
no slower to simulate than a million.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import click
import numpy as np

DAY = 86_400.0  # seconds


@dataclass(frozen=True)
class Load:
    """What is to be translated, and what one core does."""

    words_a_day: float
    rate: float  # words a second of one core, measured
    peak: float = 2.0  # words a second at the busiest hour / on average
    cores: int = 2  # of one replica
    utilisation: float = 0.7  # planned at the peak: what is left absorbs bursts and a lost machine

    def __post_init__(self) -> None:
        if (
            min(self.words_a_day, self.rate, self.cores) <= 0
            or not 0 < self.utilisation <= 1
            or not 1 <= self.peak <= 2
        ):
            raise ValueError("words_a_day, rate and cores must be positive, utilisation in (0, 1], peak in [1, 2]")

    @property
    def capacity(self) -> float:
        """Words a second of one replica."""
        return self.rate * self.cores

    @property
    def batch_replicas(self) -> int:
        """A night's work has no peak: always busy, with a twentieth in reserve."""
        return math.ceil(self.words_a_day * 1.05 / DAY / self.capacity)

    @property
    def service_replicas(self) -> int:
        """Enough for the busiest hour at the planned utilisation, and never fewer than two: one may fail."""
        return max(2, math.ceil(self.words_a_day / DAY * self.peak / self.capacity / self.utilisation))

    def arrivals(self, second: float) -> float:
        """Words a second at that time of the day: a sine, least at midnight, most at noon."""
        swing = (self.peak - 1) * -math.cos(2 * math.pi * second / DAY)
        return self.words_a_day / DAY * (1 + swing)


@dataclass(frozen=True)
class Autoscaler:
    """Replicas follow the time that the oldest text has waited."""

    target: float = 0.5  # seconds of waiting; above it, replicas are added in proportion
    interval: float = 15.0  # seconds between two decisions
    startup: float = 60.0  # seconds from a decision until a new replica serves
    calm: float = 300.0  # seconds below the target before one in ten replicas goes


@dataclass(frozen=True)
class Outcome:
    """``waits``: seconds in the queue, median and 99th percentile over all words."""

    replica_hours: float
    most: int
    median: float
    p99: float
    done: float  # words
    left: float  # words still in the queue at the end


def simulate(load: Load, scaler: Autoscaler | None = None, request: float = 20.0, seed: int = 0) -> Outcome:
    """A day, second by second, with a fixed number of replicas or with an autoscaler. ``request``: words of one."""
    rng = np.random.default_rng(seed)
    replicas = load.service_replicas
    coming: list[tuple[float, int]] = []  # when it is ready, how many
    queue = done = busy = 0.0
    most, calm = replicas, 0.0
    waits, weights = [], []
    for second in range(int(DAY)):
        ready = [count for when, count in coming if when <= second]
        coming = [(when, count) for when, count in coming if when > second]
        replicas += sum(ready)
        most = max(most, replicas)
        arrived = float(rng.poisson(load.arrivals(second) / request)) * request
        capacity = replicas * load.capacity
        waits.append(queue / capacity)
        weights.append(arrived)
        queue += arrived
        served = min(queue, capacity)
        queue, done, busy = queue - served, done + served, busy + replicas
        wait = queue / capacity
        if scaler is None:
            continue
        calm = calm + 1 if wait <= scaler.target / 2 else 0.0
        if second % scaler.interval:
            continue
        if wait > scaler.target and not coming:
            more = math.ceil(replicas * min(1.0, wait / scaler.target - 1))
            coming.append((second + scaler.startup, max(1, more)))
        elif calm >= scaler.calm and replicas > 2 and load.arrivals(second) < 0.9 * load.utilisation * capacity:
            replicas, calm = max(2, replicas - max(1, replicas // 10)), 0.0
    order = np.argsort(waits)
    share = np.cumsum(np.array(weights)[order]) / max(1.0, sum(weights))
    places = (min(int(np.searchsorted(share, q)), len(order) - 1) for q in (0.5, 0.99))  # nothing may have arrived
    median, p99 = (float(np.array(waits)[order][place]) for place in places)
    return Outcome(busy / 3600, most, median, p99, done, queue)


@click.command()
@click.option("--words-a-day", type=click.FloatRange(0, min_open=True), required=True)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), required=True, help="Measured words a second of a core."
)
@click.option("--cores", type=click.IntRange(1), default=2, show_default=True, help="Cores of a replica.")
@click.option("--euros-an-hour", type=float, default=0.02, show_default=True, help="Price of a core for an hour.")
def main(words_a_day: float, rate: float, cores: int, euros_an_hour: float) -> None:
    """Machines, waiting and money for a load, as a line of the table in docs/scaling.md."""
    load = Load(words_a_day, rate, cores=cores)
    fixed, scaled = simulate(load), simulate(load, Autoscaler())
    for name, outcome in (("fixed", fixed), ("autoscaled", scaled)):
        euros = outcome.replica_hours * cores * euros_an_hour
        click.echo(
            f"{name}: at most {outcome.most} replicas, {outcome.replica_hours:.0f} replica hours, {euros:.2f} euros, "
            f"waiting {outcome.median:.2f} s (median) and {outcome.p99:.2f} s (p99)"
        )
    click.echo(f"as a batch without peaks: {load.batch_replicas} replicas")


if __name__ == "__main__":
    main()
