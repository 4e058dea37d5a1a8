"""The HTTP API over real sockets, in front of a server whose translator upper-cases."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fake_translator import FakeTranslator
from serving import running, running_gateway

from model.errors import UserError
from service.access import WRONG_TOKENS
from service.gateway.config import GatewayConfig
from service.gateway.files import KEPT_BYTES, Files
from service.gateway.guard import HEADERS, GatewayMetrics
from service.languages import name_of

EN_DE = {"source": "en", "target": "de"}
KEY = "0123456789abcdef"


def client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, timeout=60)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx2.Client]:
    with running(FakeTranslator) as server, running_gateway(server.address) as url, client(url) as http:
        yield http


def translate(http: httpx2.Client, **fields: Any) -> Any:
    answer = http.post("/translate", json=EN_DE | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_text_and_a_list_of_one(http: httpx2.Client) -> None:
    one, several = translate(http, q="abc", alternatives=2), translate(http, q=["abc"], alternatives=2)
    assert one == {
        "translatedText": "ABC",
        "alternatives": ["ABC'", "ABC''"],
        "score": -0.25,
        "confidence": pytest.approx(0.7788, abs=1e-4),
        "warnings": [],
    }
    assert several == {name: [value] for name, value in one.items()}


def test_form_and_json_are_the_same(http: httpx2.Client) -> None:
    for fields in ({"q": "äöü 1"}, {"q": ["a", "", "b"], "alternatives": 1}, {"q": "a", "formality": "formal"}):
        form = http.post("/translate", data=EN_DE | fields)
        assert form.json() == translate(http, **fields)
    upload = http.post("/translate", files={name: (None, value) for name, value in (EN_DE | {"q": "a"}).items()})
    assert upload.json() == translate(http, q="a")


FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    "q",
    [
        "Die Straße + 100% schön 😀".replace("+", "%2B").encode(),  # raw, as curl -d sends it
        b"Die+Stra%C3%9Fe+%2B+100%25+sch%C3%B6n+%F0%9F%98%80",
        "Die Straße %2B 100% sch%C3%B6n 😀".encode(),
        b"Die Stra\xc3%9fe %2B 100%25 sch%c3\xb6n \xf0%9F%98\x80",
    ],
)
def test_a_form_is_utf_8_raw_or_percent_encoded(http: httpx2.Client, q: bytes) -> None:
    answer = http.post("/translate", content=b"q=" + q + b"&source=de&target=en&&empty=&=&none", headers=FORM)
    assert answer.json()["translatedText"] == "die straße + 100% schön 😀"


@pytest.mark.parametrize("path", ["/translate", "/detect", "/explain", "/translate_file"])
@pytest.mark.parametrize("field", [b"q=caf\xe9", b"q=caf%E9", b"q=a&\xe9=", b"q=%ED%A0%80"])
def test_a_form_that_is_not_utf_8(http: httpx2.Client, path: str, field: bytes) -> None:
    answer = http.post(path, content=field + b"&source=en&target=de", headers=FORM)
    error = "the form is not UTF-8; send its text in UTF-8, raw or percent-encoded"
    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize("content", ['{"q": "ä", "source": "en", "target": "de"}', '\n {"q": "a=b&c=d"}'])
def test_json_that_is_called_a_form(http: httpx2.Client, content: str) -> None:
    answer = http.post("/translate", content=content.encode(), headers=FORM)
    error = "q: Field required; the body looks like JSON: send it with content-type: application/json"
    assert (answer.status_code, answer.json()) == (400, {"error": error})
    for form in ("source=en", "source={&target=de"):
        assert http.post("/translate", content=form, headers=FORM).json() == {"error": "q: Field required"}


def test_regional_codes(http: httpx2.Client) -> None:
    plain, regional = translate(http, q="abc"), translate(http, q="abc", source="en_US", target="de-AT")
    assert regional == plain
    found = translate(http, q="Wo ist der Bahnhof?", source="auto", target="EN-gb")
    assert (found["translatedText"], found["detectedLanguage"]["language"]) == ("wo ist der bahnhof?", "de")
    uploaded = post_file(http, "a.txt", b"abc", source="en-US", target="de-DE").json()
    assert http.get(uploaded["translatedFileUrl"]).content == b"ABC"


def test_formality_and_many_alternatives_reach_the_server(http: httpx2.Client) -> None:
    assert translate(http, q="abc", formality="informal")["translatedText"] == "DU: ABC"
    assert len(translate(http, q="abc", alternatives=40)["alternatives"]) == 40  # wider than the default beam


def test_html_keeps_its_tags(http: httpx2.Client) -> None:
    for source in ("en", "auto"):
        answer = translate(http, q='<p title="x">Where is <b>the</b> station?</p>', source=source, format="html")
        assert answer["translatedText"] == '<p title="X">WHERE IS <b>THE</b> STATION?</p>'


def test_auto_says_what_was_detected(http: httpx2.Client) -> None:
    answer = translate(http, q=["Where is the station?", "", "Wo ist der Bahnhof?"], source="auto")
    english, blank, german = answer["detectedLanguage"]
    assert (english["language"], german["language"]) == ("en", "de")
    assert 50 < english["confidence"] <= 100
    assert blank == {"confidence": 0, "language": ""}
    assert answer["translatedText"] == ["WHERE IS THE STATION?", "", "Wo ist der Bahnhof?"]
    assert answer["warnings"][2] == [{"code": "COPIED_SOURCE", "detail": "already in this language"}]


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"source": "en", "target": "de"}, 400, "q: Field required"),
        (EN_DE | {"q": []}, 400, "q: empty; give at least one text"),
        (EN_DE | {"q": "a", "source": "fr"}, 400, "source: 'fr' is not one of de, en"),
        (EN_DE | {"q": "a", "format": "pdf"}, 400, "format: Input should be 'text' or 'html'"),
        (EN_DE | {"q": "a", "alternatives": 64}, 400, "alternatives: Input should be less than or equal to 63"),
        (EN_DE | {"q": ["a"] * 1025}, 400, "q: 1025 texts, the limit is 1024; send several requests"),
        (EN_DE | {"q": "a" * 200_001}, 400, "q: 200001 characters, the limit is 200000; send less"),
        (EN_DE | {"q": "a", "api_key": "ä"}, 403, "no valid api_key; ask the operator of this server for one"),
        ([], 400, "the body: Input should be an object"),
    ],
)
def test_bad_requests(http: httpx2.Client, body: Any, status: int, error: str) -> None:
    answer = http.post("/translate", json=body)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_an_unforeseen_error_is_not_told(http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(body: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("service.gateway.schemas.TranslateBody.message", fail)
    answer = http.post("/translate", json=EN_DE | {"q": "a"})
    assert (answer.status_code, answer.json()) == (500, {"error": "the gateway failed; its log says why"})


@pytest.mark.parametrize(
    ("content", "kind", "status", "error"),
    [
        (b"{", "application/json", 400, "the body: Invalid JSON"),
        (b'{"q": "\\ud800", "source": "en", "target": "de"}', "application/json", 400, "the body: Invalid JSON"),
        (b"[" * 100_000, "application/json", 400, "the body: Invalid JSON"),
        (b"\xff", "application/json", 400, "the body: Invalid JSON"),
        (b"x", "multipart/form-data", 400, ""),
        (b"q", "text/plain", 415, "content-type text/plain is not one of"),
        (b"q=" + b"x" * (4 << 20), "application/x-www-form-urlencoded", 413, "more than 4194304 bytes, the limit"),
        (b"x" * (4 << 20) + b"x", "application/json", 413, "more than 4194304 bytes, the limit of a request"),
    ],
)
def test_bodies_that_cannot_be_read(http: httpx2.Client, content: bytes, kind: str, status: int, error: str) -> None:
    answer = http.post("/translate", content=content, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["error"][: len(error)]) == (status, error)


def test_a_form_has_the_limits_of_json(http: httpx2.Client) -> None:
    many = http.post("/translate", data={"q": ["a"] * 1_020, "source": "en", "target": "de"})
    assert len(many.json()["translatedText"]) == 1_020
    too_many = http.post("/translate", data={"q": ["a"] * 10_001})
    assert too_many.status_code == 400
    assert too_many.json()["error"].startswith("more than 10000 fields, the limit of a form")
    long = http.post("/translate", data={"q": "я" * 190_000, "source": "en", "target": "de"})
    assert len(long.json()["translatedText"]) == 190_000


def test_what_is_not_there(http: httpx2.Client) -> None:
    assert (http.get("/no").status_code, http.get("/no").json()) == (404, {"error": "Not Found"})
    assert http.get("/translate").status_code == 405
    assert http.get("/download_file/guess.txt").status_code == 404
    for path in ("/swagger/../core.py", "/swagger/%2e%2e/core.py", "/swagger/..%2fcore.py"):
        assert http.get(path).status_code == 404


def test_refusals_of_the_server_in_http() -> None:
    """No room: 429 with the time that the server says; not loaded, or not there: 503; too slow: 504."""
    go_on = threading.Event()

    def before(texts: Sequence[str]) -> None:
        if "wait" in texts:
            go_on.wait(timeout=10)

    translator = FakeTranslator(before=before)
    with running(lambda: translator, queue_tokens=4) as server:
        with running_gateway(server.address, timeout_seconds=0.5) as url, client(url) as http:
            slow = http.post("/translate", json=EN_DE | {"q": "wait"})
            assert slow.status_code == 504
            go_on.set()
        with running_gateway(server.address) as url, client(url) as http:
            server.server._scheduler.check_room = full  # type: ignore[method-assign]
            refused = http.post("/translate", json=EN_DE | {"q": "a"})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")
    with running_gateway("127.0.0.1:1") as url, client(url) as http:
        assert http.get("/health").status_code == 503
        assert http.get("/health").json() == {"error": "the translation server is not serving"}
        lost = http.post("/translate", json=EN_DE | {"q": "a"})
        assert (lost.status_code, lost.headers["retry-after"]) == (503, "1")
        assert lost.json()["error"].startswith("the translation server does not answer")


def full() -> None:
    from service.scheduler import QueueFullError

    raise QueueFullError("the queue is full", 2.5)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_client_that_goes_away_cancels_the_call() -> None:
    go_on = threading.Event()

    def before(texts: Sequence[str]) -> None:
        if "wait" in texts:
            go_on.wait(timeout=10)

    metrics = GatewayMetrics()
    with (
        running(lambda: FakeTranslator(before=before, steps=1000)) as server,
        running_gateway(server.address, metrics) as url,
    ):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            body = b"q=wait&source=en&target=de"
            head = b"POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            client.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            wait_until(lambda: server.server._servicer._in_flight)
        calls = server.server.metrics.calls.labels("Translate", "CANCELLED")
        wait_until(lambda: calls._value.get() == 1)  # while the model is still at its first step
        wait_until(lambda: metrics.requests.labels("/translate", 499)._value.get() == 1)
        go_on.set()


def test_bodies_have_so_much_memory_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.guard.HELD_BYTES", 1000)
    monkeypatch.setattr("service.gateway.guard.BODY_SECONDS", 1.0)
    with running(FakeTranslator) as server, running_gateway(server.address) as url, client(url) as http:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as slow:
            head = (
                "POST /translate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2000\r\n\r\n"
            )
            slow.sendall(head.encode() + b"x" * 1500)  # alone it may be larger, and it never ends
            refused = http.get("/languages")
            while refused.status_code == 200:
                refused = http.post("/translate", json=EN_DE | {"q": "a"})
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.json() == {"error": "too much is being sent at once; try again in a moment"}
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert translate(http, q="a" * 2000)["translatedText"] == "A" * 2000


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    (tmp_path / "tokens").write_text(f"another-token-of-some-length\n{KEY}\n")
    return str(tmp_path / "tokens")


def test_keys_are_the_tokens_of_the_server(tokens_file: str) -> None:
    with running(FakeTranslator, tokens_file=tokens_file) as server:
        with running_gateway(server.address, tokens_file=tokens_file) as url, client(url) as http:
            assert http.get("/frontend/settings").json()["keyRequired"]
            assert http.get("/languages").status_code == http.get("/health").status_code == 200
            assert http.post("/translate", json=EN_DE | {"q": "a"}).status_code == 403
            assert http.post("/translate", json=EN_DE | {"q": "a", "api_key": KEY[:-1]}).status_code == 403
            assert http.post("/translate", json=EN_DE | {"q": "a", "api_key": KEY}).status_code == 200
            bearer = http.post("/translate", json=EN_DE | {"q": "a"}, headers={"authorization": f"Bearer {KEY}"})
            assert bearer.status_code == 200
        # a gateway that does not know the tokens leaves the judgement to the server
        with running_gateway(server.address) as url, client(url) as http:
            assert http.post("/translate", json=EN_DE | {"q": "a", "api_key": KEY[:-1]}).status_code == 403
            assert http.post("/translate", json=EN_DE | {"q": "a", "api_key": KEY}).status_code == 200


def test_guesses_end_soon(tokens_file: str) -> None:
    """Wrong keys bar their address, but not from a key that was right there before; and no call reaches the server."""
    with running_gateway("127.0.0.1:1", tokens_file=tokens_file) as url, client(url) as http:
        assert http.post("/detect", json={"q": "a", "api_key": KEY}).status_code == 503
        guesses = [http.post("/detect", json={"q": "a", "api_key": f"{n:016d}"}) for n in range(WRONG_TOKENS + 1)]
        assert [answer.status_code for answer in guesses] == [403] * WRONG_TOKENS + [429]
        assert 0 < int(guesses[-1].headers["retry-after"]) <= 60
        assert http.post("/detect", json={"q": "a", "api_key": KEY}).status_code == 503
        other = {"q": "a", "api_key": "another-token-of-some-length"}
        assert http.post("/detect", json=other).status_code == 429


def test_the_rate_limit_is_a_client_s_own(tokens_file: str) -> None:
    with running(FakeTranslator) as server:
        settings = {"tokens_file": tokens_file, "rate_limit": "2/hour"}
        with running_gateway(server.address, **settings) as url, client(url) as http:
            answers = [http.post("/detect", json={"q": "a", "api_key": KEY}) for _ in range(3)]
            other = http.post("/detect", json={"q": "a", "api_key": "another-token-of-some-length"})
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 3500 < int(answers[2].headers["retry-after"]) <= 3600
        assert other.status_code == 200
        # without keys it is the address that counts: to make up a key does not help
        with running_gateway(server.address, rate_limit="1/hour") as url, client(url) as http:
            answers = [http.post("/detect", json={"q": "a", "api_key": f"key {number}"}) for number in range(2)]
        assert [answer.status_code for answer in answers] == [200, 429]


def test_only_a_trusted_proxy_may_say_who_calls() -> None:
    with running(FakeTranslator) as server:
        for trusted, expected in (("", 429), ("127.0.0.1", 200)):
            settings = {"rate_limit": "1/hour", "trusted_proxies": trusted}
            with running_gateway(server.address, **settings) as url, client(url) as http:
                callers = [{"x-forwarded-for": f"192.0.2.{number}"} for number in (1, 2)]
                answers = [http.post("/translate", json=EN_DE | {"q": "a"}, headers=caller) for caller in callers]
            assert [answer.status_code for answer in answers] == [200, expected]


def test_pages_of_others_may_call_only_if_they_are_named(http: httpx2.Client) -> None:
    page = {"origin": "https://a.example"}
    assert "access-control-allow-origin" not in http.get("/languages", headers=page).headers
    with (
        running_gateway("127.0.0.1:1", cors_origins="https://a.example, https://b.example") as url,
        client(url) as other,
    ):
        preflight = other.options("/translate", headers=page | {"access-control-request-method": "POST"})
        assert preflight.headers["access-control-allow-origin"] == "https://a.example"
        named = other.get("/frontend/settings", headers=page)
        assert named.headers["access-control-allow-origin"] == "https://a.example"
        refused = other.post("/detect", content=b"x" * (4 << 20) + b"x", headers=page)
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (413, "https://a.example")
        assert refused.headers["access-control-expose-headers"] == "Retry-After"


def test_head_is_get_without_the_body_and_counted_as_answered() -> None:
    metrics, paths = GatewayMetrics(), ("/health", "/languages", "/docs.js", "/swagger/swagger-ui.css")
    with running(FakeTranslator) as server, running_gateway(server.address, metrics) as url, client(url) as http:
        for path in paths:
            found, head = http.get(path), http.head(path)
            assert (head.status_code, head.content) == (200, b"") and found.content
        assert http.head("/no").status_code == 404
    counts = {key: child._value.get() for key, child in metrics.requests._metrics.items()}
    assert sum(counts.values()) == 2 * len(paths) + 1
    assert {status for _, status in counts} == {"200", "404"}


def test_pages_are_strict_compressed_and_cached(http: httpx2.Client) -> None:
    page = http.get("/docs")
    assert page.status_code == 200
    assert "://" not in page.text
    for name in ("/swagger/swagger-ui.css", "/swagger/swagger-ui-bundle.js", "/docs.js"):
        found = http.get(name)
        assert found.status_code == 200
        again = http.get(name, headers={"if-none-match": found.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert found.headers["cache-control"] == again.headers["cache-control"] == "no-cache"
    assert http.get("/swagger/swagger-ui.css").headers["content-encoding"] == "gzip"
    for path in ("/docs", "/languages", "/no", "/swagger/no"):
        assert HEADERS.items() <= dict(http.get(path).headers).items()


def test_openapi_describes_every_body(http: httpx2.Client) -> None:
    schema = http.get("/openapi.json").json()
    names = set(schema["components"]["schemas"])
    text = http.get("/openapi.json").text
    for name in ("TranslateBody", "GlossaryEntry", "DetectBody", "ExplainBody", "FileBody"):
        assert name in names
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= names
    assert set(schema["paths"]) >= {"/translate", "/detect", "/explain", "/translate_file", "/languages", "/health"}


def post_file(http: httpx2.Client, name: str, content: bytes, **fields: str) -> httpx2.Response:
    return http.post("/translate_file", data=EN_DE | fields, files={"file": (name, content)})


def test_files(http: httpx2.Client) -> None:
    answer = post_file(http, "../A.CSV", b"id,text\n1,abc\n2,abc\n", columns="text")
    found = http.get(answer.json()["translatedFileUrl"])
    assert found.content == b"id,text\n1,ABC\n2,ABC\n"
    assert found.headers["content-disposition"].endswith('.csv"')
    assert post_file(http, "a.txt", b"").status_code == 200
    for name, content, fields, error in (
        ("a.exe", b"", {}, "file: 'a.exe' is none of .csv, .docx,"),
        ("a.csv", b"id,text\n", {}, "columns: missing"),
        ("a.csv", b"id,text\n", {"columns": "no"}, "file: "),
        ("a.txt", b"a\n\xff\n", {}, "file: line 2: byte 1 (0xff) is not valid UTF-8"),
        ("a.docx", b"no zip", {}, "file: "),
        (
            "a.txt",
            b"\n" * 200_001,
            {},
            "file: more than 200000 characters and lines, the limit; split it, or use nmt translate",
        ),
        ("a.jsonl", b'{"text": "a \\ud83d"}\n', {"columns": "text"}, "file: line 1: it holds half of a surrogate pair"),
        (
            "a.txt",
            b"a " * 100_001,
            {},
            "file: more than 200000 characters and lines, the limit; split it, or use nmt translate",
        ),
        ("a.txt", b"1", {"source": "auto"}, "source: the language of the file cannot be seen; name it"),
    ):
        answer = post_file(http, name, content, **fields)
        assert (answer.status_code, answer.json()["error"][: len(error)]) == (400, error)
    assert http.post("/translate_file", data=EN_DE).json() == {
        "error": "file: missing; send the form as multipart/form-data"
    }
    assert post_file(http, "a.txt", b"x" * (17 << 20)).status_code == 413


def test_files_are_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(None, 1)  # type: ignore[arg-type]
    names = [files._keep(".txt", bytes(KEPT_BYTES // 2)) for _ in range(3)]
    assert [files.get(name) is None for name in names] == [True, False, False]
    later = time.monotonic() + 601
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert files.get(names[2]) is None


def test_metrics_hold_no_text(http: httpx2.Client, tmp_path: Path) -> None:
    metrics = GatewayMetrics()
    with running(FakeTranslator) as server, running_gateway(server.address, metrics) as url:
        httpx2.post(f"{url}/translate", json=EN_DE | {"q": "a"})
        httpx2.get(f"{url}/secret/path")
    labels = {tuple(sample.labels.values()) for metric in metrics.registry.collect() for sample in metric.samples}
    assert ("/translate", "200") in labels
    assert ("other", "404") in labels
    assert not any("secret" in value for values in labels for value in values)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rate_limit=often"], "rate_limit = 'often' is not of the form"),
        (["server=a:1,b"], "'b' is not of the form HOST:PORT"),
        (["client_key=a"], "client_certificate and client_key go together"),
        (["timeout_seconds=0"], "timeout_seconds = 0.0 must be above 0"),
        (["max_body_byte=1"], "unknown key 'max_body_byte'; did you mean 'max_body_bytes'?"),
    ],
)
def test_settings_that_are_none(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        GatewayConfig.from_settings(settings)


def test_names_of_languages() -> None:
    assert [name_of("de"), name_of("de-AT"), name_of("qqq"), name_of("x_y")] == [
        "German",
        "German (Austria)",
        "qqq",
        "x_y",
    ]
    assert name_of("en", "de") == "Englisch"
    assert name_of("en", "no such") == "English"


def test_replicas_take_turns() -> None:
    one, two = FakeTranslator(), FakeTranslator()
    with (
        running(lambda: one) as first,
        running(lambda: two) as second,
        running_gateway(f"{first.address},{second.address}") as url,
        client(url) as http,
    ):
        for _ in range(4):
            translate(http, q="abc")
    assert [sum("abc" in call for call in each.calls) for each in (one, two)] == [2, 2]
