"""Explain and include_alignment over the wire, with a real model (of random weights)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import torch
from serving import running

from model.config import SearchConfig
from model.translator import Translator
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.client import Client
from service.explaining import KINDS
from service.translate import pharaoh

TEXT = "where is my dog?"


@pytest.fixture(scope="module")
def translator(checkpoint_directory: Path) -> Translator:
    return Translator.load(checkpoint_directory, dtype="float32")


@pytest.fixture(scope="module")
def address(translator: Translator) -> Iterator[str]:
    with running(lambda: translator) as server:
        yield server.address


def explain(address: str, **fields: object) -> pb.ExplainResponse:
    with grpc.insecure_channel(address) as channel:
        request = pb.ExplainRequest(content=TEXT, source_language_code="en", target_language_code="de")
        request.MergeFrom(pb.ExplainRequest(**fields))  # type: ignore[arg-type]
        return pb_grpc.TranslationServiceStub(channel).Explain(request, timeout=60)


@pytest.mark.parametrize("given", ["", "wo ist mein Hund?"])
def test_the_wire_says_what_the_library_says(address: str, translator: Translator, given: str) -> None:
    answer = explain(address, translated_text=given, search={"beam_size": 2})
    wanted = translator.explain(TEXT, "en", "de", SearchConfig(beam_size=2), given)
    assert answer.translation.translated_text == wanted.translation.text
    assert (tuple(answer.source_tokens), tuple(answer.target_tokens)) == (wanted.source_tokens, wanted.target_tokens)
    assert len(answer.maps) == sum(x.shape[0] * x.shape[1] for x in wanted.maps.values())
    names = {number: kind for kind, number in KINDS.items()}
    for one in answer.maps:
        weights = wanted.maps[names[one.kind]][one.layer, one.head]
        torch.testing.assert_close(torch.tensor(list(one.weights)).view(weights.shape), weights, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"content": "Where is it? There."}, "content: it has 2 sentences"),
        ({"target_language_code": "xx"}, "target_language_code: 'xx'"),
        ({"search": {"beam_size": 99}}, "search.beam_size"),
        ({"translated_text": "Hund " * 200}, "the translation has"),
    ],
)
def test_what_is_wrong_is_said(address: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(grpc.RpcError) as error:
        explain(address, **fields)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in error.value.details()


def test_no_text_is_refused(address: str) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as error:
        pb_grpc.TranslationServiceStub(channel).Explain(pb.ExplainRequest(target_language_code="de"), timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "content: empty" in error.value.details()


def test_alignments_over_the_wire_are_those_of_the_library(address: str, translator: Translator) -> None:
    texts = ["the cat is today.\n\n  where is my dog?", "", "good morning"]
    search = SearchConfig(beam_size=2, nbest=2)
    here = translator.translate(texts, "en", "de", search, alignments=True)
    with Client(address) as client:
        there = client.translate(texts, "en", "de", search, alignments=True)
        assert not client.translate(["good morning"], "en", "de")[0].hypotheses[0].alignment
    for text, one, other in zip(texts, here, there, strict=True):
        for mine, theirs in zip(one.hypotheses, other.hypotheses, strict=True):
            assert mine.text == theirs.text
            assert pharaoh(text, mine.text, mine.alignment) == pharaoh(text, theirs.text, theirs.alignment)
    first = here[0].hypotheses[0]
    assert len(pharaoh(texts[0], first.text, first.alignment).split()) == len(first.text.split())


def test_pharaoh_counts_words() -> None:
    def link(source: tuple[int, int], target: tuple[int, int]) -> pb.AlignmentLink:
        return pb.AlignmentLink(
            source=pb.Span(start=source[0], end=source[1]), target=pb.Span(start=target[0], end=target[1])
        )

    links = [link((4, 7), (6, 10)), link((0, 3), (0, 5))]
    assert pharaoh("the  cat", "wo\u00a0is Katze", [link((5, 8), (3, 5))]) == "1-1"
    assert pharaoh("the cat", "eine Katze", links) == "0-0 1-1"
