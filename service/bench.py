"""`nmt bench serve`: how a server does under load, and what it costs beside calling the library.

Closed loop: each client sends its next request when it has the answer to the last. Every answer is compared with that
of a single client, so a lost or swapped one ends the run.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.machine import processor
from service.client import Client
from service.errors import ServiceError

PAIRS = 30  # of calls, one in-process and one over the wire, for the overhead
SENTENCES = """\
Good morning.
Where is the station?
I have no time today.
Could you please send me the report before Friday?
The children were playing in the garden when it began to rain.
We would like to book a table for {n} people.
He has been working for this company for {n} years.
The train to Berlin leaves at {n} o'clock from the other platform.
Although she was tired, she finished the letter and took it to the post office.
If you have any questions about your order, call us or write to us and we will answer within {n} days.
""".splitlines()


@dataclass(frozen=True)
class Load:
    """What one number of clients met."""

    clients: int
    calls: int
    seconds: float
    latencies: Sequence[float]  # seconds of each call

    def row(self) -> dict[str, float]:
        cuts = statistics.quantiles(self.latencies, n=100, method="inclusive")
        return {
            "clients": self.clients,
            "calls": self.calls,
            "calls_per_second": round(self.calls / self.seconds, 2),
            "p50_ms": round(1000 * cuts[49], 2),
            "p95_ms": round(1000 * cuts[94], 2),
            "p99_ms": round(1000 * cuts[98], 2),
        }


def bench(
    clients: Sequence[int], calls: int, sizes: Sequence[int], checkpoint: str | None, seconds: float = math.inf
) -> dict[str, Any]:
    """Measure a server of its own on loopback. ``sizes``: sentences a request, in turn; ``seconds``: after which
    several clients stop, whatever is left of their calls."""
    from model.translator import Translator

    texts = [request_text(number, sizes[number % len(sizes)]) for number in range(min(calls, 200))]
    with own_server(checkpoint) as (address, process), Client(address) as client:
        expected = [client.translate([text], "en", "de")[0].translated_text for text in texts]
        before = memory_mb(process.pid)
        loads = [
            drive(address, texts, expected, count, calls, seconds)
            if count > 1
            else drive(address, texts, expected, count, len(texts))
            for count in clients
        ]
        after = memory_mb(process.pid)
        translator = Translator.load(checkpoint)
        overhead = overhead_ms(
            lambda text: translator.translate([text], "en", "de"), lambda text: client.translate([text], "en", "de")
        )
    rows = [load.row() for load in loads]
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count()},
        "sizes": list(sizes),
        "rows": rows,
        "speedup": round(rows[-1]["calls_per_second"] / rows[0]["calls_per_second"], 2),
        "overhead_p50_ms": round(overhead, 2),
        "server_mb": {"before": before, "after": after},
    }


def request_text(number: int, sentences: int) -> str:
    """Sentences of mixed length; no two requests are the same."""
    chosen = itertools.islice(itertools.cycle(SENTENCES), number % len(SENTENCES), None)
    lines = [line.replace("{n}", str(2 + number)) for line in itertools.islice(chosen, sentences)]
    return " ".join([*lines, f"This is number {number}."] if sentences > 1 else [f"{number}: {lines[0]}"])


def drive(
    address: str,
    texts: Sequence[str],
    expected: Sequence[str],
    clients: int,
    calls: int,
    seconds: float = math.inf,
) -> Load:
    """``calls`` calls from ``clients`` clients, each with a connection of its own; none begins after ``seconds``."""
    numbers, until = itertools.count(), time.monotonic() + seconds

    def work() -> list[float]:
        latencies = []
        with Client(address) as client:
            while time.monotonic() < until and (number := next(numbers)) < calls:
                at = number % len(texts)
                begin = time.perf_counter()
                found = client.translate([texts[at]], "en", "de")[0].translated_text
                latencies.append(time.perf_counter() - begin)
                if found != expected[at]:
                    raise ServiceError(f"call {number} with {clients} clients had another answer than alone")
        return latencies

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(work) for _ in range(clients)]
        latencies = [latency for future in futures for latency in future.result()]
    return Load(clients, len(latencies), time.perf_counter() - begin, latencies)


def overhead_ms(here: Callable[[str], Any], there: Callable[[str], Any]) -> float:
    """Median of what a call to an idle server takes longer than the library, measured in turns."""
    differences = []
    for number in range(PAIRS + 3):
        text = request_text(number, 1)
        times = []
        for call in (here, there):
            begin = time.perf_counter()
            call(text)
            times.append(time.perf_counter() - begin)
        differences.append(times[1] - times[0])
    return 1000 * statistics.median(differences[3:])  # the first ones warm up


@contextlib.contextmanager
def own_server(checkpoint: str | None) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`nmt serve` as a process of its own, once it serves."""
    command = [sys.executable, "-m", "service.cli", "serve", "--listen", "127.0.0.1:0", "--web", "off"]
    command += ["--set", "log_format=text"]
    command += ["--checkpoint", checkpoint] if checkpoint else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        last = ""
        for line in process.stderr:
            if match := re.search(r"serving \S+ \(.*\) on (\S+)", line):
                yield match[1], process
                return
            last = line
        raise ServiceError(f"the server did not start: {last.strip()}")
    finally:
        process.terminate()
        process.wait()


def memory_mb(pid: int) -> float | None:
    """Resident memory of a process; None where the system does not tell."""
    try:
        return round(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)
    except (OSError, ValueError):
        return None


def table(result: dict[str, Any]) -> str:
    head = f"{'clients':>8}{'calls':>8}{'calls/s':>10}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}"
    lines = [
        f"{row['clients']:>8}{row['calls']:>8}{row['calls_per_second']:>10}{row['p50_ms']:>10}{row['p95_ms']:>10}"
        f"{row['p99_ms']:>10}"
        for row in result["rows"]
    ]
    memory, machine = result["server_mb"], result["machine"]
    return "\n".join(
        [
            f"{machine['processor']}, {machine['cores']} cores; sentences a request: {result['sizes']}",
            head,
            *lines,
            f"speedup of batching: {result['speedup']}; overhead of an idle call (p50): {result['overhead_p50_ms']} ms",
            f"memory of the server: {memory['before']} MB before, {memory['after']} MB after",
        ]
    )
