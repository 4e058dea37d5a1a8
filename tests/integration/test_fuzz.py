"""Well-formed messages with anything in them: each is answered, or refused for a reason that its sender can mend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import Running, running

from model.config import SearchConfig
from model.glossary import Glossary
from model.translator import Translator
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.contents import prepare
from service.documents.html import parse
from service.documents.inline import Unit
from service.jobs import How

REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)


@pytest.fixture(scope="module")
def server(checkpoint_directory: Path) -> Iterator[Running]:
    with running(lambda: Translator.load(checkpoint_directory), max_characters=300) as server:
        yield server


texts = st.text(max_size=30) | st.sampled_from(
    [
        "the cat is here",
        "<p>the <b>cat</b></p>",
        "<!DOCTYPE",
        "<![CDATA[",
        "&#x110000;",
        "\u2581",
        "{x} %s",
        "a\0b",
        "\ufdd0",
    ]
)
codes = st.sampled_from(["de", "en", "", "xx", "<2de>"])
entries = st.builds(pb.GlossaryEntry, source_term=texts | st.just("cat"), target_term=texts)
glossaries = st.builds(
    pb.GlossaryConfig,
    glossary=st.sampled_from(["", "", "none"]),
    ignore_case=st.booleans(),
    entries=st.lists(entries, max_size=3),
)
numbers = st.sampled_from([0, 1, 3, 64, -1, 2**31 - 1]) | st.none()
searches = st.builds(
    pb.SearchOptions,
    beam_size=numbers,
    length_penalty=st.floats() | st.none(),
    max_length_ratio=st.sampled_from([0.001, 1.5, -1.0, float("inf")]) | st.none(),
    max_length_offset=numbers,
    sampling=st.booleans(),
    top_k=numbers,
    temperature=st.floats() | st.none(),
    seed=numbers,
)
requests = st.builds(
    pb.TranslateRequest,
    contents=st.lists(texts, max_size=4),
    mime_type=st.sampled_from(["", "text/html", "text/plain", "x"]),
    source_language_code=codes,
    target_language_code=codes,
    model=st.sampled_from(["", "", "tiny", "none"]),
    search=searches | st.none(),
    num_hypotheses=st.sampled_from([0, 1, 2, 100, -5]),
    glossary_config=glossaries | st.none(),
    formality=st.sampled_from([0, 0, 1, 2, 77]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests)
def test_a_request_is_answered_or_refused_for_a_reason(server: Running, request: Any) -> None:
    usual = pb.TranslateRequest(contents=["the cat"], source_language_code="en", target_language_code="de")
    # Half of the fields at random would seldom be right together: each request also goes out on a sound base.
    sound = pb.TranslateRequest(contents=request.contents, mime_type=request.mime_type, search=request.search)
    if request.HasField("glossary_config"):
        sound.glossary_config.CopyFrom(request.glossary_config)
    sound.source_language_code, sound.target_language_code = "en", "de"
    with grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)
        for message in (request, sound):
            try:
                answer = stub.Translate(message, timeout=60)
            except grpc.RpcError as error:
                assert error.code() in REFUSALS, (error.code(), error.details())
                assert error.details()
            else:
                assert len(answer.translations) == len(message.contents)
        assert stub.Translate(usual, timeout=60).translations


# Beginnings of something that never ends, and what a pattern may read in many ways
UNENDING = [
    "{{",
    "{%",
    "<a ",
    "</a ",
    "<!--x>",
    "<![CDATA[]>",
    "<![if x>",
    "<b>x</b> ",
    "<code>",
    "a",
    "a@",
    "%0",
    "www.",
]


@pytest.mark.slow
@pytest.mark.parametrize("part", [*UNENDING, "1. ", "\u6f22\u3002", "\U0001f600", "e\u0301", "\xa0"])
def test_a_long_text_takes_no_time_that_grows_with_its_square(checkpoint_directory: Path, part: str) -> None:
    """A request within all limits: seconds at the most, where a quadratic pattern takes minutes."""
    (terms := checkpoint_directory.parent / "terms.tsv").write_text("cat\tKater\n", encoding="utf-8")
    translator, glossary = Translator.load(checkpoint_directory), Glossary.load(terms)
    text = part * (200_000 // len(part))
    begin = time.process_time()
    for html in (False, True):
        how = How(translator, "en", "de", SearchConfig(), glossary=glossary, html=html)
        content = prepare(text, how)
        whole = content.pieces or [segment.text for document in content.documents for segment in document.segments]
        assert "".join(piece if isinstance(piece, str) else piece.raw for piece in whole) == text
    assert time.process_time() - begin < 20


@pytest.mark.parametrize(
    ("page", "rendered"),
    [
        ("<i>cat</i> dog " * 4_000, "<i>CAT</i> DOG " * 4_000),
        (f"<b>cat</b> dog {'- ' * 100_000}a", "<b>CAT</b> DOG - -"),
    ],
    ids=["marks", "dashes"],
)
def test_nor_does_a_sentence_with_marks(page: str, rendered: str) -> None:
    """Of many marks the stretches are joined; to look for each in the whole would take that time."""
    (unit,) = (piece for piece in parse(page, "en") if isinstance(piece, Unit))
    begin = time.process_time()
    assert unit.render([text.upper() for text in unit.texts]).startswith(rendered.rstrip())
    assert time.process_time() - begin < 20
