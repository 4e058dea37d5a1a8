from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from fake_translator import FakeTranslator
from serving import running

from model.config import SearchConfig
from model.errors import UserError
from service.client import REQUEST_CHARACTERS, REQUEST_TEXTS, Client, requests_of
from service.errors import ServiceError


@pytest.fixture
def client() -> Iterator[Client]:
    with running(FakeTranslator) as server, Client(server.address) as client:
        yield client


def test_any_number_of_texts(client: Client) -> None:
    texts = [f"a{i}" for i in range(2 * REQUEST_TEXTS + 5)] + ["b" * (REQUEST_CHARACTERS + 1), "", "c"]
    done: list[int] = []
    translations = client.translate(texts, "en", "de", progress=done.append)
    assert [translation.translated_text for translation in translations] == [text.upper() for text in texts]
    assert sum(done) == len(texts)
    assert len(done) > 3
    assert client.translate([], "en", "de") == []


def test_requests_hold_every_text_in_order() -> None:
    texts = ["a" * length for length in (0, 1, 15_000, 6_000, 50_000, 1)] + ["b"] * 600
    parts = list(requests_of(texts))
    assert [text for part in parts for text in part] == texts
    for part in parts:
        assert len(part) <= REQUEST_TEXTS
        assert len(part) == 1 or sum(map(len, part)) <= REQUEST_CHARACTERS


def test_settings_arrive(client: Client) -> None:
    search = SearchConfig(beam_size=1, sampling=True, nbest=3, seed=7)
    (translation,) = client.translate(["a"], "en", "de", search)
    assert [hypothesis.text for hypothesis in translation.hypotheses] == ["A", "A'", "A''"]


def test_models(client: Client) -> None:
    assert [model.name for model in client.models()] == ["fake"]


def test_a_refused_request_is_the_users_error(client: Client) -> None:
    with pytest.raises(UserError, match="refused the request: target_language_code: 'xx' is not one of de, en"):
        client.translate(["a"], "en", "xx")
    with pytest.raises(UserError, match="200001 characters, the limit is 200000; split the text"):
        client.translate(["a" * 200_001], "en", "de")


def test_an_address_that_is_none() -> None:
    with pytest.raises(UserError, match="'nowhere' is not of the form HOST:PORT"):
        Client("nowhere")


def test_nobody_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound and not listening: refuses connections
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with Client(address) as client, pytest.raises(ServiceError, match=f"no answer from {address}, is 'nmt serve'"):
            client.translate(["a"], "en", "de")


def test_too_slow() -> None:
    slow = FakeTranslator(before=lambda texts: time.sleep(0.5 if texts == ["slow"] else 0))
    late = pytest.raises(ServiceError, match=r"did not answer within 0\.1 s")
    with running(lambda: slow) as server, Client(server.address, timeout=0.1) as client, late:
        client.translate(["slow"], "en", "de")


def test_somebody_else_there() -> None:
    """A server that does not speak gRPC, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.3) as client, pytest.raises(ServiceError, match=address):
            client.translate(["a"], "en", "de")
