from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_translator import FakeTranslator
from google.rpc import code_pb2

from model.config import SearchConfig
from protos.translation.v1 import translation_pb2 as pb
from service.config import ServiceConfig
from service.glossaries import Glossaries
from service.jobs import How
from service.validation import RefusedError, check_request

CONFIG = ServiceConfig(max_contents=3, max_characters=10, max_glossary_entries=2)
ENTRY = {"source_term": "a", "target_term": "b"}


def request(**fields: Any) -> pb.TranslateRequest:
    usual = {"contents": ["a"], "source_language_code": "en", "target_language_code": "de"}
    return pb.TranslateRequest(**(usual | fields))


BASE = FakeTranslator("base")
OTHER = FakeTranslator("other", languages=("en", "fr"))


def check(message: pb.TranslateRequest) -> How:
    return check_request(message, {"base": BASE, "other": OTHER}, CONFIG)  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("fields", "search"),
    [
        ({}, SearchConfig()),
        ({"search": {}, "mime_type": "text/plain", "model": "base"}, SearchConfig()),
        ({"contents": ["", "", "12345678"]}, SearchConfig()),
        ({"num_hypotheses": 3}, SearchConfig(nbest=3)),
        (
            {"search": {"beam_size": 2, "length_penalty": 0.0, "max_length_offset": 0}},
            SearchConfig(beam_size=2, length_penalty=0.0, max_length_offset=0),
        ),
        (
            {"search": {"sampling": True, "seed": 0, "top_k": 4}, "num_hypotheses": 9},
            SearchConfig(beam_size=1, sampling=True, top_k=4, nbest=9),
        ),
    ],
)
def test_accepted(fields: dict[str, Any], search: SearchConfig) -> None:
    assert check(request(**fields)) == How(BASE, "en", "de", search)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        ({"contents": []}, "contents", "empty"),
        ({"contents": ["a"] * 4}, "contents", "4 texts, the limit is 3; send several requests"),
        ({"contents": ["ü" * 11]}, "contents", "11 characters, the limit is 10; split the text"),
        ({"contents": ["a" * 6, "b" * 6]}, "contents", "12 characters, the limit is 10; send several"),
        ({"source_language_code": "xx"}, "source_language_code", "'xx' is not one of de, en, fr"),
        ({"target_language_code": ""}, "target_language_code", "empty; give one of de, en, fr"),
        ({"target_language_code": "<2de>"}, "target_language_code", "'<2de>' is not one of de, en, fr"),
        ({"target_language_code": "en"}, "target_language_code", "'en' is the source language"),
        ({"source_language_code": "fr"}, "target_language_code", "no loaded model translates 'fr' to 'de'"),
        ({"target_language_code": "fr", "formality": 1}, "formality", "formality = formal is not to be had in 'fr'"),
        ({"mime_type": "application/pdf"}, "mime_type", "'application/pdf' is not one of text/plain"),
        ({"formality": 9}, "formality", "9 is not a Formality"),
        ({"num_hypotheses": 6}, "num_hypotheses", "num_hypotheses = 6 needs a beam_size of at least 6, not 5"),
        ({"num_hypotheses": -1}, "num_hypotheses", "num_hypotheses = -1 must lie in 1..64"),
        ({"search": {"beam_size": 0}}, "search.beam_size", "beam_size = 0 must lie in 1..64"),
        ({"search": {"length_penalty": float("nan")}}, "search.length_penalty", "nan must lie in"),
        ({"search": {"temperature": 2}}, "search.temperature", "only with sampling"),
        ({"search": {"sampling": True, "beam_size": 2}}, "search.sampling", "beam_size must be 1"),
        ({"include_alignment": True, "num_hypotheses": 1, "mime_type": "text/html"}, "include_alignment", "plain text"),
        ({"glossary_config": {}}, "glossary_config", "empty; name a stored glossary or give entries"),
        ({"glossary_config": {"entries": [ENTRY] * 3}}, "glossary_config", "3 entries, the limit is 2; store"),
        (
            {"glossary_config": {"entries": [{"source_term": "a"}]}},
            "glossary_config",
            "term 1: the target term is empty",
        ),
        (
            {"glossary_config": {"entries": [ENTRY, {"source_term": "A", "target_term": "c"}], "ignore_case": True}},
            "glossary_config",
            "term 2: 'A' has two translations",
        ),
        (
            {"glossary_config": {"entries": [ENTRY]}, "search": {"sampling": True}},
            "glossary_config",
            "a glossary cannot be followed with sampling",
        ),
    ],
)
def test_one_violation(fields: dict[str, Any], field: str, description: str) -> None:
    with pytest.raises(RefusedError, match=description) as refused:
        check(request(**fields))
    assert refused.value.code == code_pb2.INVALID_ARGUMENT
    assert [name for name, _ in refused.value.violations] == [field]


def test_all_violations_at_once() -> None:
    with pytest.raises(RefusedError) as refused:
        check(pb.TranslateRequest(search={"beam_size": 100}))
    fields = [field for field, _ in refused.value.violations]
    assert fields == ["contents", "target_language_code", "search.beam_size"]


def test_glossaries(tmp_path: Path) -> None:
    (tmp_path / "shop.tsv").write_text("a\tx\nb c\ty\n")
    stored = Glossaries(str(tmp_path))

    def terms(text: str, **config: Any) -> list[str]:
        how = check_request(request(glossary_config=config), {"base": BASE}, CONFIG, stored)  # type: ignore[dict-item]
        assert how.glossary
        return [match.term.target for match in how.glossary.find(text)]

    assert terms("a b c B C", glossary="shop") == ["x", "y"]
    assert terms("a b c B C", glossary="shop", ignore_case=True) == ["x", "y", "y"]
    assert terms("a b c", entries=[ENTRY]) == ["b"]
    assert terms("a b c", glossary="shop", entries=[ENTRY]) == ["b", "y"]  # the request's own term wins
    with pytest.raises(RefusedError, match="'sop' is not stored; there is 'shop'") as refused:
        terms("a", glossary="sop")
    assert refused.value.code == code_pb2.NOT_FOUND


@pytest.mark.parametrize(
    ("source", "target", "meant"),
    [
        ("en-US", "de-DE", ("en", "de")),
        ("EN", "de_AT", ("en", "de")),
        ("", "EN_us", ("", "en")),
        ("en-US", "pt-BR", ("en", "pt-BR")),  # a model's own code
        ("en", "PT_br", ("en", "pt-BR")),
        ("en", "pt-PT", ("en", "pt")),
        ("en", "sr-Cyrl-RS", ("en", "sr")),
    ],
)
def test_regional_codes(source: str, target: str, meant: tuple[str, str]) -> None:
    models = {"base": BASE, "regional": FakeTranslator("regional", languages=("en", "pt", "pt-BR", "sr"))}
    given = request(source_language_code=source, target_language_code=target)
    how = check_request(given, models, CONFIG)  # type: ignore[arg-type]
    assert (how.source, how.target) == meant
    assert set(filter(None, meant)) <= set(how.translator.languages)


def test_the_form_of_address_in_a_region() -> None:
    assert check(request(target_language_code="de-CH", formality=pb.FORMALITY_FORMAL)).formality == "formal"


@pytest.mark.parametrize(
    ("source", "target", "description"),
    [
        ("fr-CA", "de-DE", "target_language_code: no loaded model translates 'fr-CA' to 'de-DE'"),
        ("en-US", "en-GB", "target_language_code: 'en-GB' is the source language, too"),
        ("en", "nl-BE", "target_language_code: 'nl-BE' is not one of de, en, fr"),
        ("english", "de", "source_language_code: 'english' is not one of de, en, fr"),
        ("-", "de", "source_language_code: '-' is not one of de, en, fr"),
    ],
)
def test_refusals_name_the_code_that_was_given(source: str, target: str, description: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check(request(source_language_code=source, target_language_code=target))
    assert str(refused.value) == description


def test_the_model_and_the_form_of_address() -> None:
    assert check(request(source_language_code="")) == How(BASE, "", "de", SearchConfig())  # type: ignore[arg-type]
    assert check(request(target_language_code="fr")).translator is OTHER
    assert check(request(formality=pb.FORMALITY_INFORMAL)).formality == "informal"
