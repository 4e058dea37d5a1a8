"""What goes wrong around a server in production, done to real processes on loopback."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from serving import FAKE_NMT, NOT_SERVING, REAL_NMT, SERVING, health_of, process, wait_until

from protos.translation.v1 import translation_pb2 as pb
from service.bench import drive, memory_mb, request_text
from service.client import Client
from service.server import SERVICE

CLIENTS, CALLS = 16, 60  # of each client; `nmt bench serve --clients 64 --calls 10000` is the long run


def swarm(address: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Many clients with requests of mixed size: every answer must be its own question's."""

    def calls(number: int) -> None:
        rng = random.Random(number)
        with Client(address) as client:
            for call in range(CALLS):
                texts = [
                    f"a{number} {call} {i} " + "x" * rng.randrange(40) for i in range(rng.choice([1, 1, 1, 5, 40]))
                ]
                found = client.translate(texts, "en", "de")
                assert [one.translated_text for one in found] == [text.upper() for text in texts]

    with ThreadPoolExecutor(CLIENTS) as pool:
        futures = [pool.submit(calls, number) for number in range(CLIENTS)]
        meanwhile()
        for future in futures:
            future.result(timeout=200)


def test_no_answer_is_lost_or_swapped_whatever_else_comes_to_the_port() -> None:
    """Beside good clients: random bytes, messages that are none, clients that leave in the middle."""
    with process(FAKE_NMT, "--set", "metrics_listen=127.0.0.1:0") as server:
        server.wait_for("serving fake")
        host, port = server.address.split(":")
        rng = random.Random(1)

        def trouble() -> None:
            for _ in range(50):
                with socket.create_connection((host, int(port))) as raw:
                    raw.sendall(rng.choice([b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]) + rng.randbytes(300))
            with grpc.insecure_channel(server.address) as channel:
                call = channel.unary_unary(f"/{SERVICE}/Translate")
                good = pb.TranslateRequest(contents=["secret"] * 3, target_language_code="de").SerializeToString()
                for _ in range(100):
                    fuzzed = bytearray(good)
                    fuzzed[rng.randrange(len(good))] = rng.randrange(256)
                    error = call.future(bytes(fuzzed)).exception(timeout=30)
                    assert error is None or error.code() in (
                        grpc.StatusCode.UNKNOWN,  # gRPC's own answer to what is no message
                        grpc.StatusCode.INTERNAL,
                        grpc.StatusCode.INVALID_ARGUMENT,
                        grpc.StatusCode.UNIMPLEMENTED,
                        grpc.StatusCode.NOT_FOUND,
                    )
                stream = channel.stream_stream(f"/{SERVICE}/TranslateStream")
                settings = pb.TranslateRequest(source_language_code="en", target_language_code="de")
                first = pb.TranslateStreamRequest(settings=settings, contents=["a"] * 100).SerializeToString()
                for _ in range(20):
                    left = stream(iter([first]))
                    next(left)
                    left.cancel()

        swarm(server.address, trouble)
        url = server.wait_for(r"metrics on (http://\S+/metrics)")[1].rstrip('"}')
        for _ in range(100):  # what the leaving clients asked for goes out of the queue before the next step
            metrics = urllib.request.urlopen(url).read().decode()
            if "nmt_queue_tokens 0.0" in metrics:
                break
            time.sleep(0.1)
        assert re.search(r'nmt_calls_total\{code="OK",method="Translate"\} \d+', metrics)
        assert re.search(r"nmt_queue_seconds_count \d+", metrics)
        assert "nmt_queue_tokens 0.0" in metrics
        assert "secret" not in metrics + server.log
        assert server.popen.poll() is None


def connections(pid: int) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in psutil.Process(pid).net_connections("tcp"))


@pytest.mark.slow
def test_under_load_every_answer_is_that_of_one_by_one() -> None:
    """With the shipped model; `nmt bench serve --clients 64 --calls 10000 --sizes 1,1,5,20` is the long run."""
    with process(REAL_NMT) as server:
        server.wait_for("serving")
        texts = [request_text(number, (1, 1, 2, 5)[number % 4]) for number in range(24)]
        with Client(server.address) as client:
            expected = [client.translate([text], "en", "de")[0].translated_text for text in texts]
        assert drive(server.address, texts, expected, 64, 150).calls == 150


@pytest.mark.slow
def test_memory_stays_flat() -> None:
    """`nmt bench serve --clients 16 --seconds 600` is the long run, with the shipped model."""
    with process(FAKE_NMT) as server:
        server.wait_for("serving fake")
        swarm(server.address)
        before = memory_mb(server.popen.pid)
        if before is None:
            pytest.skip("this system does not tell the memory of a process")
        for _ in range(2):
            swarm(server.address)
        after = memory_mb(server.popen.pid)
        assert after is not None and after < before + 8


def test_a_killed_worker_loses_no_call() -> None:
    with process(FAKE_NMT, "--workers", "2") as server:
        server.wait_for(r"serving fake(.|\n)*serving fake")
        pids = [int(pid) for pid in re.findall(r"worker \d is process (\d+)", server.log)]

        def kill() -> None:
            wait_until(lambda: all(map(connections, pids)), 60)  # a client has its own, the kernel chose the worker
            os.kill(pids[0], signal.SIGKILL)

        swarm(server.address, kill)
        server.wait_for(r"worker 0 ended with -9(.|\n)*worker 0 is process \d+(.|\n)*serving fake")
        server.popen.terminate()
        assert server.popen.wait(timeout=30) == 0


def test_a_worker_that_loads_takes_no_calls() -> None:
    """One that was started again: the others have the port to themselves until it can answer."""
    with process(FAKE_NMT, "--workers", "2", environment={"FAKE_LOADING": "6"}) as server:
        server.wait_for(r"serving fake(.|\n)*serving fake")
        pids = [int(pid) for pid in re.findall(r"worker \d is process (\d+)", server.log)]
        os.kill(pids[0], signal.SIGKILL)
        server.wait_for(r"worker 0 ended with -9(.|\n)*worker 0 is process \d+(.|\n)*loading the model")
        begin = time.monotonic()
        for number in range(12):
            with Client(server.address) as client:
                assert client.translate([f"a{number}"], "en", "de")[0].translated_text == f"A{number}"
        assert time.monotonic() - begin < 3  # none of them waited for a second attempt
        server.wait_for(r"worker 0 ended with -9(.|\n)*serving fake")
        for _ in range(12):  # whichever worker is asked
            assert health_of(server.address) == SERVING


def test_a_signal_to_look_again_may_come_while_it_loads() -> None:
    with process(FAKE_NMT, environment={"FAKE_LOADING": "2"}) as server:
        server.popen.send_signal(signal.SIGHUP)
        server.wait_for("serving fake")
        server.popen.send_signal(signal.SIGHUP)
        server.wait_for(r"SIGHUP(.|\n)*serving fake(.|\n)*SIGHUP")
        server.popen.terminate()
        assert server.popen.wait(timeout=30) == 0


def test_models_come_and_go_while_it_serves(tmp_path: Path) -> None:
    def add(name: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")

    add("first")
    add("second")
    with process(FAKE_NMT, "--checkpoint", str(tmp_path)) as server, Client(server.address) as client:
        server.wait_for("serving second")

        def names() -> list[str]:
            return [model.name for model in client.models()]

        def look_again() -> None:
            server.log = ""
            server.popen.send_signal(signal.SIGHUP)

        assert names() == ["first", "second"]
        assert health_of(server.address, f"{SERVICE}/second") == SERVING
        stop = threading.Event()

        def keep_calling() -> int:
            count = 0
            while not stop.is_set():
                assert client.translate([f"a{count}"], "en", "de")[0].translated_text == f"A{count}"
                count += 1
            return count

        with ThreadPoolExecutor(1) as pool:
            calls = pool.submit(keep_calling)
            add("third")
            (tmp_path / "second" / "config.json").unlink()
            look_again()
            wait_until(lambda: names() == ["first", "third"], 60)
            assert health_of(server.address, f"{SERVICE}/second") == NOT_SERVING
            (tmp_path / "first" / "corrupt").touch()  # replaced by one that cannot be loaded: the old one stays
            (tmp_path / "first" / "config.json").write_text("{ }")
            look_again()
            server.wait_for("model refused: .*first.*damaged; the old one stays")
            assert names() == ["first", "third"]
            stop.set()
            assert calls.result(timeout=30) > 0
