"""Several worker processes on one port: the kernel spreads connections over all that listen (SO_REUSEPORT).

Each worker is the same command once more, told by its environment that it is one. A worker that dies is started
again; SIGTERM and SIGINT are passed on and end all; SIGHUP is passed on and reloads models. The supervisor itself
imports neither gRPC nor torch.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from types import FrameType

from service.config import ServiceConfig, host_and_port
from service.errors import ServiceError

log = logging.getLogger(__name__)
WORKER = "NMT_WORKER"  # in the environment of a worker: NUMBER@HOST:PORT
BAD_INPUT = 2  # the exit code that starting again would not change
POLL_SECONDS = 0.1
PAUSE_SECONDS = (0.2, 30.0)  # before a worker is started again: doubled each time it did not live for a minute
STEADY_SECONDS = 60.0


def this_worker() -> tuple[int, str] | None:
    """Number, from 0, and shared address of this process; None: it is no worker."""
    number, _, listen = os.environ.get(WORKER, "").partition("@")
    return (int(number), listen) if number else None


class Worker:
    """One process and what is known of it."""

    def __init__(self, number: int, listen: str) -> None:
        self.number, self.listen = number, listen
        self.pause = PAUSE_SECONDS[0]
        self.start()

    def start(self) -> None:
        environment = os.environ | {WORKER: f"{self.number}@{self.listen}"}
        self.process = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment)
        self.begin = time.monotonic()
        self.again_at: float | None = None  # when to start it again, once it is dead
        log.info("worker %d is process %d", self.number, self.process.pid)

    def died(self) -> None:
        lived = time.monotonic() - self.begin
        self.pause = PAUSE_SECONDS[0] if lived >= STEADY_SECONDS else min(2 * self.pause, PAUSE_SECONDS[1])
        self.again_at = time.monotonic() + self.pause
        log.error("worker %d ended with %d; a new one in %.1f s", self.number, self.process.returncode, self.pause)


def supervise(config: ServiceConfig) -> int:
    """Run the workers until a signal ends them; returns the exit code: 0, or the worst of theirs.

    Raises ServiceError where the port cannot be had.
    """
    reserved, listen = reserve(config.listen)
    log.info("listening on %s with %d workers", listen, config.workers)
    ending = False
    workers: list[Worker] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        nonlocal ending
        ending = ending or number != signal.SIGHUP
        for worker in workers:
            if worker.process.poll() is None:
                worker.process.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, pass_on)
    workers += [Worker(number, listen) for number in range(config.workers)]
    while not ending:
        time.sleep(POLL_SECONDS)
        for worker in workers:
            code = worker.process.poll()
            if code is None or ending:
                continue
            if code == BAD_INPUT:
                log.error("worker %d refused its input: all end", worker.number)
                pass_on(signal.SIGTERM, None)
            elif worker.again_at is None:
                worker.died()
            elif time.monotonic() >= worker.again_at:
                worker.start()
    codes = [worker.process.wait() for worker in workers]
    reserved.close()
    return max(abs(code) if code == BAD_INPUT else int(code != 0) for code in codes)


def reserve(address: str) -> tuple[socket.socket, str]:
    """Hold a port that workers share: bound and never listening, so that no connection comes here."""
    host, port = host_and_port(address)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        probe = socket.socket(family, kind, protocol)
        probe.bind(place)  # without SO_REUSEPORT: fails where another program listens
        port = probe.getsockname()[1]
        probe.close()
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((place[0], port, *place[2:]))
    except OSError as error:
        raise ServiceError(f"cannot listen on {address}: {error.strerror}; choose another with --listen") from None
    return held, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
