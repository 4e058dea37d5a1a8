"""The real client library of LibreTranslate against `nmt serve` with the shipped model, through its web port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import httpx2
import pytest
from libretranslatepy import LibreTranslateAPI
from serving import FAKE_NMT, REAL_NMT, ROOT, Process, process

from service.errors import ServiceError
from service.supervisor import reserve

WEB = ("--web", "127.0.0.1:0")

shipped = pytest.mark.skipif(
    not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
)


def url_of(server: Process) -> str:
    return server.wait_for(r"HTTP API on (http://[\d.:]+)")[1]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with process(REAL_NMT, *WEB) as server:
        url = url_of(server)
        with httpx2.Client(base_url=url) as http:
            assert http.get("/health").status_code == 503  # truthful: the model is loading
        server.wait_for(r"serving \S+ \(de, en\) on ")
        yield url


@shipped
def test_libretranslatepy(url: str) -> None:
    """The same words as over gRPC are tested elsewhere; here, that the client finds all it expects."""
    client = LibreTranslateAPI(url)
    assert client.translate("Good morning.", "en", "de").casefold() == "guten morgen."
    assert client.translate("Guten Morgen.", "auto", "en").casefold() == "good morning."
    assert client.languages() == [
        {"code": "de", "name": "German", "targets": ["en"], "formality": True},
        {"code": "en", "name": "English", "targets": ["de"], "formality": False},
    ]
    best, *_ = client.detect("Wo ist der Bahnhof, bitte?")
    assert best["language"] == "de"
    assert 50 < best["confidence"] <= 100
    with pytest.raises(HTTPError) as refused:
        client.translate("Bonjour", "fr", "de")
    assert refused.value.code == 400
    assert b"source: 'fr' is not one of de, en" in refused.value.read()


@shipped
def test_a_document(url: str) -> None:
    """LibreTranslate's way: sent as a form, fetched from the address in the answer."""
    with httpx2.Client(base_url=url, timeout=60) as http:
        text = "# Good morning\n\nWhere is **the station**?\n"
        form = {"source": "auto", "target": "de"}
        answer = http.post("/translate_file", data=form, files={"file": ("a.md", text.encode())})
        found = http.get(answer.json()["translatedFileUrl"])
    assert found.text == "# Guten Morgen\n\nWo ist **der Bahnhof**?\n"
    assert found.headers["content-type"] == "application/octet-stream"  # never shown in the page's origin


@shipped
def test_extensions(url: str) -> None:
    """Terms, alignments and attention arrive as the contract of the gRPC service has them."""
    text = {"q": "The widget is on the table.", "source": "en", "target": "de"}
    with httpx2.Client(base_url=url, timeout=60) as http:
        glossary = [{"source": "widget", "target": "Dingsda"}]
        answer = http.post("/translate", json=text | {"glossary": glossary, "alignment": True}).json()
        explained = http.post("/explain", json=text).json()
    links = {
        text["q"][source_start:source_end]: answer["translatedText"][start:end]
        for source_start, source_end, start, end, weight in answer["alignment"]
        if weight > 0.5
    }
    assert links["widget"] == "Dingsda"
    sizes = {
        "ENCODER": len(explained["source_tokens"]) ** 2,
        "DECODER": len(explained["target_tokens"]) ** 2,
        "CROSS": len(explained["source_tokens"]) * len(explained["target_tokens"]),
    }
    assert {one["kind"] for one in explained["maps"]} == set(sizes)
    assert all(len(one["weights"]) == sizes[one["kind"]] for one in explained["maps"])


@shipped
def test_health_follows_the_server(url: str) -> None:
    assert httpx2.get(f"{url}/health").json() == {"status": "ok"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_they_are_ready_is_no_failure(number: signal.Signals) -> None:
    with process(FAKE_NMT, *WEB, environment={"FAKE_LOADING": "30"}) as server:
        server.wait_for(r"the web page is process (\d+)")
        server.popen.send_signal(number)
        assert server.popen.wait(timeout=20) == 0
        assert "Traceback" not in server.log and "Aborted" not in server.log


def test_a_server_that_was_killed_starts_again_at_once() -> None:
    """Though connections that it closed first linger in TIME_WAIT on its port."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as old:  # as gRPC has it
        port = old.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            old.accept()[0].close()
            assert client.recv(1) == b""
    held, address = reserve(f"127.0.0.1:{port}")
    assert address == f"127.0.0.1:{port}"
    with pytest.raises(ServiceError, match="Address already in use"):
        reserve(address)  # by another supervisor
    held.close()


def test_a_signal_ends_both_and_a_killed_web_page_comes_back() -> None:
    with process(FAKE_NMT, *WEB, environment={"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}) as server:
        url = url_of(server)
        server.wait_for("serving fake")
        first = int(server.wait_for(r"the web page is process (\d+)")[1])
        os.kill(first, signal.SIGKILL)
        server.wait_for(r"the web page ended with -9")
        # its socket is held meanwhile: this call waits and is answered
        answer = httpx2.post(f"{url}/translate", data={"q": "a", "source": "en", "target": "de"}, timeout=30)
        assert answer.json()["translatedText"] == "A"
        server.popen.send_signal(signal.SIGTERM)
        assert server.popen.wait(timeout=20) == 0
        assert "Traceback" not in server.log
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")


def test_the_web_page_does_not_outlive_a_killed_supervisor() -> None:
    with process(FAKE_NMT, *WEB) as server:
        url = url_of(server)
        server.popen.kill()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                httpx2.get(f"{url}/frontend/settings")
            except httpx2.TransportError:
                return
            time.sleep(0.2)
    raise AssertionError("the web page is still there")


def test_a_web_port_in_use() -> None:
    with process(FAKE_NMT, *WEB) as server:
        address = url_of(server).removeprefix("http://")
        command = [*FAKE_NMT, "serve", "--listen", "127.0.0.1:0", "--web", address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    reason = (
        f"nmt: cannot listen on {address}: Address already in use; choose another with --web HOST:PORT, or --web off"
    )
    assert done.stderr.splitlines() == [reason]


def test_a_signal_at_any_moment_of_the_start_ends_all() -> None:
    """Nobody is left behind, however little is there when it comes."""
    for pause in (0.05, 0.2, 0.4):
        command = [*FAKE_NMT, "serve", "--listen", "127.0.0.1:0", *WEB]
        server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        assert server.stderr
        server.stderr.readline()  # listening: it has its handlers, and begins to start the processes
        time.sleep(pause)
        server.terminate()
        rest = server.communicate(timeout=60)[0]  # returns when the last process has closed its standard error
        assert rest is None
        assert server.returncode in (0, 1)  # 1: one had no handler yet


def test_a_setting_that_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "service.cli", "gateway", "--set", "rate_limit=often"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == "nmt: rate_limit = 'often' is not of the form 60/minute or 10/second\n"
