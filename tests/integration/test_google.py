"""Google's own client against `nmt serve`: only where it connects to, and with what key, is another."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_translator import FakeTranslator
from google.api_core import exceptions
from google.cloud import translate_v3
from google.cloud.translate_v3.services.translation_service.transports import TranslationServiceGrpcTransport
from serving import FAKE_NMT, REAL_NMT, ROOT, Process, process, running

from protos.google import translation_v3_pb2 as google
from service.google import NAME

PARENT = "projects/any/locations/global"
TOKEN = "0123456789abcdef"
PLAIN = {"mime_type": "text/plain", "parent": PARENT}

shipped = pytest.mark.skipif(
    not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[FAKE_NMT, pytest.param(REAL_NMT, marks=shipped)], ids=["fake", "shipped"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    with process(request.param) as server:
        server.wait_for(r"serving \S+ \(de, en\) on ")
        yield server


@pytest.fixture(scope="module")
def client(server: Process) -> Iterator[translate_v3.TranslationServiceClient]:
    with grpc.insecure_channel(server.address) as channel:
        yield translate_v3.TranslationServiceClient(transport=TranslationServiceGrpcTransport(channel=channel))


def test_translate_text(client: translate_v3.TranslationServiceClient) -> None:
    answer = client.translate_text(
        request={**PLAIN, "contents": ["Good morning.", ""], "source_language_code": "en", "target_language_code": "de"}
    )
    first, second = answer.translations
    assert first.translated_text.casefold() in ("guten morgen.", "good morning.")
    assert (second.translated_text, first.detected_language_code, first.model) == ("", "", "")


def test_the_source_language_is_detected(client: translate_v3.TranslationServiceClient) -> None:
    model = f"{PARENT}/models/general/nmt"
    answer = client.translate_text(
        request={**PLAIN, "contents": ["Wo ist der Bahnhof?"], "target_language_code": "en", "model": model}
    )
    assert answer.translations[0].detected_language_code == "de"
    assert answer.translations[0].model == model


def test_the_codes_of_google_s_quickstart(client: translate_v3.TranslationServiceClient) -> None:
    def texts(**codes: str) -> list[str]:
        answer = client.translate_text(request={**PLAIN, "contents": ["Good morning."], **codes})
        return [one.translated_text for one in answer.translations]

    plain = texts(source_language_code="en", target_language_code="de")
    assert texts(source_language_code="en-US", target_language_code="de-DE") == plain
    request = {**PLAIN, "contents": ["Wo ist der Bahnhof?"], "target_language_code": "en-US"}
    assert client.translate_text(request=request).translations[0].detected_language_code == "de"


def test_html_unless_the_request_says_otherwise(client: translate_v3.TranslationServiceClient) -> None:
    request = {"parent": PARENT, "contents": ["<p>Good morning.</p>"], "target_language_code": "de"}
    answer = client.translate_text(request=request | {"source_language_code": "en"})
    assert answer.translations[0].translated_text.casefold() in ("<p>guten morgen.</p>", "<p>good morning.</p>")
    assert (
        client.detect_language(parent=PARENT, content="<p>Wo ist der Bahnhof?</p>").languages[0].language_code == "de"
    )


def test_detect_language(client: translate_v3.TranslationServiceClient) -> None:
    answer = client.detect_language(parent=PARENT, content="Wo ist der Bahnhof?")
    assert answer.languages[0].language_code == "de"
    assert 0.5 < answer.languages[0].confidence <= 1


def test_supported_languages(client: translate_v3.TranslationServiceClient) -> None:
    def rows(**more: str) -> list[Any]:
        found = client.get_supported_languages(parent=PARENT, **more).languages
        return [(one.language_code, one.display_name, one.support_source, one.support_target) for one in found]

    assert rows() == [("de", "", True, True), ("en", "", True, True)]
    assert rows(display_language_code="de") == [("de", "Deutsch", True, True), ("en", "Englisch", True, True)]
    with pytest.raises(exceptions.NotFound, match="'other' is not loaded"):
        rows(model=f"{PARENT}/models/other")


def translate(client: translate_v3.TranslationServiceClient, **fields: Any) -> Any:
    request = {**PLAIN, "contents": ["a"], "source_language_code": "en", "target_language_code": "de", **fields}
    return client.translate_text(request=request)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"source_language_code": "fr"}, exceptions.InvalidArgument, "source_language_code: 'fr' is not one of de, en"),
        ({"contents": []}, exceptions.InvalidArgument, "contents: empty"),
        ({"contents": ["a"] * 1025}, exceptions.InvalidArgument, "contents: 1025 texts, the limit is 1024"),
        ({"mime_type": "text/rtf"}, exceptions.InvalidArgument, "mime_type: 'text/rtf' is not one of"),
        (
            {"glossary_config": {"glossary": f"{PARENT}/glossaries/no"}},
            exceptions.NotFound,
            "glossary_config.glossary: 'no' is not stored; there is none",
        ),
        ({"model": f"{PARENT}/models/no"}, exceptions.NotFound, "model: 'no' is not loaded"),
        (
            {"transliteration_config": {"enable_transliteration": True}},
            exceptions.MethodNotImplemented,
            "not on this server: transliteration_config",
        ),
        (
            {"glossary_config": {"glossary": f"{PARENT}/glossaries/g", "contextual_translation_enabled": True}},
            exceptions.MethodNotImplemented,
            "not on this server: glossary_config.contextual_translation_enabled",
        ),
    ],
)
def test_refusals(
    client: translate_v3.TranslationServiceClient, fields: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        translate(client, **fields)


def test_what_google_has_and_this_server_has_not(client: translate_v3.TranslationServiceClient) -> None:
    with pytest.raises(exceptions.MethodNotImplemented, match="ListGlossaries is not on this server; there is Transl"):
        client.list_glossaries(parent=PARENT)


def test_a_field_that_google_adds_later_is_not_overlooked(server: Process) -> None:
    with grpc.insecure_channel(server.address) as channel:
        call = channel.unary_unary(f"/{NAME}/TranslateText")
        field_99 = bytes([(99 << 3 | 0) & 0x7F | 0x80, 99 << 3 >> 7, 1])
        with pytest.raises(grpc.RpcError) as refused:
            call(google.TranslateTextRequest(contents=["a"]).SerializeToString() + field_99, timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert refused.value.details() == "not on this server: field 99"


def test_the_numbers_are_google_s() -> None:
    for message in google.DESCRIPTOR.message_types_by_name.values():
        theirs = getattr(translate_v3.types, message.name).pb().DESCRIPTOR.fields_by_name
        for field in message.fields:
            other = theirs[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
    methods = google.DESCRIPTOR.services_by_name["TranslationService"].methods
    assert {f"/{NAME}/{method.name}" for method in methods} <= set(their_paths())


def their_paths() -> list[str]:
    return re.findall(rf'"(/{NAME}/\w+)"', inspect.getsource(TranslationServiceGrpcTransport))


CALL = """
import json, sys
from google.api_core import exceptions
from google.cloud import translate_v3

def call(key):
    client = translate_v3.TranslationServiceClient(client_options={"api_endpoint": sys.argv[1], "api_key": key})
    request = {"parent": "projects/any", "contents": ["Good morning."], "mime_type": "text/plain",
               "source_language_code": "en", "target_language_code": "de"}
    try:
        return client.translate_text(request=request).translations[0].translated_text
    except exceptions.GoogleAPICallError as error:
        return type(error).__name__

print(json.dumps([call(key) for key in sys.argv[2:]]))
"""


def test_only_endpoint_and_key_are_others(certificates: Path, tmp_path: Path) -> None:
    """TLS and a token, as in production; the client reads the authority from where gRPC looks for it."""
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    options = [
        option for name, file in (files | {"tokens_file": tokens}).items() for option in ("--set", f"{name}={file}")
    ]
    with process(FAKE_NMT, *options) as server:
        server.wait_for("serving fake")
        endpoint = f"localhost:{server.address.rpartition(':')[2]}"
        done = subprocess.run(
            [sys.executable, "-c", CALL, endpoint, TOKEN, TOKEN[:-1]],
            capture_output=True,
            text=True,
            timeout=60,
            env={"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificates / "ca.pem")},
        )
    assert json.loads(done.stdout or "null") == ["GOOD MORNING.", "Unauthenticated"], done.stderr


def test_calls_are_counted_under_names_that_the_server_knows() -> None:
    with running(FakeTranslator) as server, grpc.insecure_channel(server.address) as channel:
        request = google.TranslateTextRequest(
            contents=["a"], source_language_code="en", target_language_code="de", mime_type="text/plain"
        )
        channel.unary_unary(f"/{NAME}/TranslateText")(request.SerializeToString(), timeout=30)
        with pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{NAME}/MadeUp")(b"", timeout=30)
        counts = server.server.metrics.calls
        deadline = time.monotonic() + 30
        while counts.labels("other", "UNIMPLEMENTED")._value.get() != 1:  # counted after it is answered
            assert time.monotonic() < deadline
            time.sleep(0.01)
        methods = {sample.labels["method"] for family in counts.collect() for sample in family.samples}
    assert methods == {"TranslateText", "other"}
