from __future__ import annotations

import dataclasses
from pathlib import Path

from model.config import SearchConfig
from protos.generate import ROOT, generate
from protos.translation.v1 import translation_pb2 as pb
from service.client import search_options
from service.validation import search_config


def test_the_committed_stubs_are_those_of_the_contract(tmp_path: Path) -> None:
    generate(tmp_path)
    generated = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in generated} == {
        "translation_pb2.py",
        "translation_pb2.pyi",
        "translation_pb2_grpc.py",
        "translation_v3_pb2.py",
        "translation_v3_pb2.pyi",
    }
    for path in generated:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), "run python -m protos.generate"


def test_names() -> None:
    service = pb.DESCRIPTOR.services_by_name["TranslationService"]
    assert service.full_name == "translation.v1.TranslationService"
    assert [method.name for method in service.methods] == [
        "Translate",
        "TranslateStream",
        "DetectLanguage",
        "ListModels",
        "Explain",
    ]


def test_search_options_have_every_field_of_search_config() -> None:
    options = {field.name for field in pb.SearchOptions.DESCRIPTOR.fields}
    assert options | {"nbest"} == {field.name for field in dataclasses.fields(SearchConfig)}


def test_search_config_survives_the_wire() -> None:
    for config in (
        SearchConfig(beam_size=7, length_penalty=0.6, max_length_ratio=1.1, max_length_offset=3),
        SearchConfig(beam_size=1, sampling=True, temperature=0.3, top_k=5, seed=1 << 40),
    ):
        message = pb.SearchOptions.FromString(search_options(config).SerializeToString())
        assert search_config({field.name: value for field, value in message.ListFields()}) == config
