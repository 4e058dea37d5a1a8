"""Hugging Face's search over our steps finds what our own search finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.config import SearchConfig
from model.translator import Translator
from training.hugging_face import HuggingFace


@pytest.mark.parametrize("beam_size", [1, 4])
def test_it_finds_what_our_search_finds(checkpoint_directory: Path, beam_size: int) -> None:
    translator = Translator.load(checkpoint_directory, dtype="float32")
    texts = ["the dog is good", "my coffee please", "where is the station this morning", "how are you today"]
    sources = [translator.vocabulary.source_ids(text, "de") for text in texts]
    peer = HuggingFace(translator.model, translator.vocabulary.unwritable)
    longest = int(1.5 * max(map(len, sources))) + 10  # one limit for the batch, which random weights reach
    search = SearchConfig(beam_size=beam_size, max_length_ratio=1e-3, max_length_offset=longest, exact=True)
    ours = [found.text for found in translator.translate(texts, "en", "de", search)]
    found = [translator.vocabulary.decode(ids) for ids in peer.translate(sources, beam_size)]
    same = sum(a == b for a, b in zip(found, ours, strict=True))
    assert same == len(texts) if beam_size == 1 else same >= len(texts) - 1  # they stop their beam a little earlier
