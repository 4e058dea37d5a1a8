"""Servers for tests: in this process, with any translator, or `nmt serve` as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.config import ServiceConfig
from service.gateway.app import create_app
from service.gateway.config import GatewayConfig
from service.gateway.guard import GatewayMetrics
from service.gateway.run import uvicorn_server
from service.server import SERVICE, Server
from service.supervisor import listen_for_web

ROOT = Path(__file__).parent.parent
FAKE_NMT = (sys.executable, str(ROOT / "tests" / "fake_translator.py"))
REAL_NMT = (sys.executable, "-m", "service.cli")
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Running:
    """A server on a thread of its own."""

    def __init__(self, load: Callable[[], Any], config: ServiceConfig) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.server = Server([None], lambda path: load(), config)
        self.address: str = self.call(self.server.start())
        self.loading = asyncio.run_coroutine_threadsafe(self.server.load(), self._loop)

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    def drain(self, seconds: float) -> bool:
        return self.call(self.server.drain(seconds))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextlib.contextmanager
def running(load: Callable[[], Any], wait: bool = True, drain: bool = True, **settings: Any) -> Iterator[Running]:
    """A server in this process; ``wait``: until it is loaded, ``drain``: at the end."""
    server = Running(load, ServiceConfig(listen="127.0.0.1:0", **settings))
    try:
        if wait:
            server.loading.result(timeout=60)  # a loaded machine
        yield server
    finally:
        if drain:
            server.drain(0)
        server.close()


@contextlib.contextmanager
def running_gateway(server: str, metrics: GatewayMetrics | None = None, **settings: Any) -> Iterator[str]:
    """A gateway in this process, on a thread of its own; yields its URL."""
    config = GatewayConfig(server=server, **settings)
    gateway = uvicorn_server(create_app(config, metrics), config)
    listener = listen_for_web("127.0.0.1:0", "")
    thread = threading.Thread(target=gateway.run, args=([listener],))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        gateway.should_exit = True
        thread.join(timeout=10)


class Process:
    """`nmt serve` as a process; ``address`` is where it listens, ``log`` what it has written to standard error."""

    def __init__(self, command: Sequence[str], *args: str, environment: dict[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [*command, "serve", "--listen", "127.0.0.1:0", "--web", "off", *args],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | (environment or {}),
        )
        self.log = ""
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        self.address = self.wait_for(r"listening on ([\d.:]+)")[1]

    def _read(self) -> None:
        assert self.popen.stderr
        for line in self.popen.stderr:
            with self._news:
                self.log += line
                self._news.notify_all()

    def wait_for(self, pattern: str, timeout: float = 120) -> re.Match[str]:
        """Wait until the log has the pattern."""
        with self._news:
            found = self._news.wait_for(lambda: re.search(pattern, self.log), timeout)
        assert found, self.log
        return found


@contextlib.contextmanager
def process(command: Sequence[str], *args: str, environment: dict[str, str] | None = None) -> Iterator[Process]:
    server = Process(command, *args, environment=environment)
    try:
        yield server
    finally:
        server.popen.kill()
        server.popen.wait()


def health_of(address: str, service: str = SERVICE) -> int:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status
