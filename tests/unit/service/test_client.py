from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_translator import FakeTranslator
from serving import running

from model.config import SearchConfig
from model.errors import UserError
from model.glossary import Glossary, Term
from service.access import WRONG_TOKENS
from service.client import REQUEST_CHARACTERS, REQUEST_TEXTS, REQUESTS_IN_FLIGHT, AsyncClient, Client, requests_of
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


def stream(kind: type[Client | AsyncClient], address: str, texts: Iterable[Any], found: list[str], **how: Any) -> None:
    """Add to ``found`` what ``stream`` of either client gives from English to German."""

    async def main() -> None:
        async with AsyncClient(address) as client:
            async for one in client.stream(texts, "en", "de", **how):
                found.append(one.translated_text)

    if kind is AsyncClient:
        asyncio.run(main())
        return
    with Client(address) as client:
        for one in client.stream(texts, "en", "de", **how):
            found.append(one.translated_text)


either_client = pytest.mark.parametrize("kind", [Client, AsyncClient])


@either_client
@pytest.mark.parametrize("limit", [{"max_contents": 20}, {"max_characters": 200}, {"max_message_bytes": 300}])
def test_any_number_of_texts_where_the_server_takes_few(
    kind: type[Client | AsyncClient], limit: dict[str, int]
) -> None:
    texts = [*(f"a{i}" for i in range(REQUEST_TEXTS + 5)), "b" * 190, *[""] * (5 * REQUEST_TEXTS), "c"]
    found: list[str] = []
    with running(FakeTranslator, **limit) as server:
        stream(kind, server.address, texts, found)
    assert found == [text.upper() for text in texts]


def test_what_the_server_takes_is_found_out_once() -> None:
    sizes: list[int] = []

    class Counting(Client):
        def _call(self, method: str, request: Any) -> Any:
            sizes.append(len(request.contents))
            return super()._call(method, request)

    with running(FakeTranslator, max_contents=20) as server:
        with Counting(server.address) as client:
            client.translate(["a"] * 30, "en", "de")
            assert sizes == [30, 15, 15]
            client.translate(["a"] * 150, "en", "de")
            assert sizes[3:] == [15] * 10
        with Counting(server.address) as client:
            sizes.clear()
            with pytest.raises(UserError, match=r"refused the request: .*'xx' is not one of de, en"):
                client.translate(["a"] * 30, "en", "xx")
            assert sizes == [30]  # smaller requests would not help


@either_client
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"max_characters": 200}, "300 characters, the limit is 200; split the text between two sentences"),
        ({"max_message_bytes": 300}, r"larger than max \(3\d\d vs. 300\); split the text"),
    ],
)
def test_a_text_that_no_request_can_hold_is_named(
    kind: type[Client | AsyncClient], limit: dict[str, int], message: str
) -> None:
    texts = [*(f"a{i}" for i in range(300)), "b" * 300, "c"]
    found: list[str] = []
    with running(FakeTranslator, **limit) as server:
        with pytest.raises(
            UserError, match=rf"texts\[300\]: {server.address} refused the request: .*{message}"
        ) as error:
            stream(kind, server.address, texts, found)
        assert error.type is UserError
        assert found == [text.upper() for text in texts[:300]]  # what was translated is not lost


def test_who_is_shut_out_does_not_ask_for_less(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("0123456789abcdef\n")
    with running(FakeTranslator, tokens_file=str(tmp_path / "tokens")) as server, Client(server.address) as client:
        for _ in range(WRONG_TOKENS):
            with pytest.raises(UserError, match="no valid token"):
                client.translate(["a", "b"], "en", "de")
        with pytest.raises(ServiceError, match="wrong tokens came from this address"):
            client.translate(["a", "b"], "en", "de")
        assert server.server.metrics.refusals.labels("guesses")._value.get() == 1


@either_client
def test_what_is_no_list_of_texts_or_no_glossary_is_refused_here(
    client: Client, kind: type[Client | AsyncClient]
) -> None:
    address = client._connection.servers
    with pytest.raises(UserError, match="texts is a single text: give a list of texts"):
        stream(kind, address, "Hello", [])
    with pytest.raises(UserError, match=r"texts\[1\] is of type NoneType: give a str"):
        stream(kind, address, ["a", None], [])
    with pytest.raises(UserError, match="glossary is of type dict: give a Glossary"):
        stream(kind, address, ["a"], [], glossary={"house": "Bude"})


def test_what_is_no_text_is_refused_here(client: Client) -> None:
    with pytest.raises(UserError, match="half a surrogate pair"):
        client.translate(["a", "caf\udce9"], "en", "de")
    with pytest.raises(UserError, match="half a surrogate pair"):
        client.detect("caf\udce9")
    assert [one.translated_text for one in client.translate(["a"], "en", "de")] == ["A"]


def test_a_language_is_seen_behind_any_number_of_signs(client: Client) -> None:
    assert client.detect("-" * 1_000 + " 1. Wo ist der Bahnhof, bitte?")[0][0] == "de"
    assert client.detect("-" * 1_000) == []


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
    with pytest.raises(UserError, match="glossary cannot be followed with sampling"):  # though "a" has no term
        client.translate(["a"], "en", "de", search, glossary=Glossary((Term("cat", "Katze"),)))
    assert [hypothesis.text for hypothesis in translation.hypotheses] == ["A", "A'", "A''"]


def test_models(client: Client) -> None:
    (model,) = client.models()
    assert (model.name, model.hash, len(model.language_pairs)) == ("fake", FakeTranslator.hash, 2)


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
    slow = FakeTranslator(before=lambda texts: time.sleep(0.5 if "slow" in texts else 0))
    late = pytest.raises(ServiceError, match=r"did not answer within 0\.1 s")
    with running(lambda: slow) as server, Client(server.address, timeout=0.1) as client, late:
        client.translate(["slow"], "en", "de")


def test_somebody_else_there() -> None:
    """A server that does not speak gRPC, or nothing at all."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with Client(address, timeout=0.3) as client, pytest.raises(ServiceError, match=address):
            client.translate(["a"], "en", "de")


def test_a_stream_of_any_length_takes_texts_as_translations_are_taken(client: Client) -> None:
    taken = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 10 * REQUESTS_IN_FLIGHT * REQUEST_TEXTS):
            yield f"a{taken}"

    found = client.stream(texts(), "en", "de")
    assert [next(found).translated_text for _ in range(3)] == ["A1", "A2", "A3"]
    assert taken <= (REQUESTS_IN_FLIGHT + 1) * REQUEST_TEXTS


def test_replicas_with_different_models_are_no_replicas() -> None:
    one, two = FakeTranslator(), FakeTranslator()
    two.hash = "another"  # type: ignore[misc]
    with running(lambda: one) as first, running(lambda: two) as second:
        with Client(f"{first.address},{first.address}") as client:
            assert client.model("en", "de").hash == one.hash
        with Client(f"{first.address},{second.address}") as client, pytest.raises(ServiceError, match="different mod"):
            client.model("en", "de")


def test_replicas_take_turns_and_a_dead_one_does_not_matter() -> None:
    one, two = FakeTranslator(), FakeTranslator()
    with (
        running(lambda: one) as first,
        running(lambda: two) as second,
        Client(f"{first.address},{second.address},127.0.0.1:1") as client,
    ):
        found = [client.translate([f"a{i}"], "en", "de")[0].translated_text for i in range(9)]
    assert found == [f"A{i}" for i in range(9)]
    assert len(one.calls) > 2
    assert len(two.calls) > 2


def test_a_server_that_loads_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than one where nobody answers."""
    monkeypatch.setattr("service.client.ATTEMPTS", 1)
    loaded = threading.Event()

    def load() -> FakeTranslator:
        loaded.wait(timeout=20)
        return FakeTranslator()

    with running(load, wait=False) as server, Client(server.address) as client, ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.translate, ["a"], "en", "de")
        calls = server.server.metrics.calls.labels("Translate", "UNAVAILABLE")._value
        while calls.get() < 2 and not call.done():
            time.sleep(0.01)
        loaded.set()
        assert call.result(timeout=20)[0].translated_text == "A"


def test_a_full_server_is_asked_again_when_it_says() -> None:
    go, entered = threading.Event(), threading.Event()

    def before(texts: Sequence[str]) -> None:
        if "slow" in texts:
            entered.set()
            go.wait(timeout=10)

    load = lambda: FakeTranslator(before=before)  # noqa: E731
    with running(load, queue_tokens=20) as server, Client(server.address) as client:  # noqa: SIM117
        with ThreadPoolExecutor(3) as pool:
            slow = pool.submit(client.translate, ["slow"], "en", "de")
            assert entered.wait(timeout=10)
            calls = [pool.submit(client.translate, [text], "en", "de") for text in ("x" * 18, "y" * 18)]
            reason = server.server.metrics.refusals.labels("queue")._value
            while not reason.get():
                time.sleep(0.01)
            go.set()
            assert [call.result(timeout=20)[0].translated_text for call in [slow, *calls]] == [
                "SLOW",
                "X" * 18,
                "Y" * 18,
            ]


def test_async_client() -> None:
    async def main(address: str) -> None:
        async with AsyncClient(address) as client:
            texts = [f"a{i}" for i in range(2 * REQUEST_TEXTS)]
            assert [one.translated_text for one in await client.translate(texts, "en", "de")] == [
                text.upper() for text in texts
            ]
            assert [model.name for model in await client.models()] == ["fake"]
            with pytest.raises(UserError, match="refused the request"):
                await client.translate(["a"], "en", "xx")
            assert (await client.detect("Wo ist der Bahnhof?"))[0][0] == "de"

    with running(FakeTranslator) as server:
        asyncio.run(main(server.address))
