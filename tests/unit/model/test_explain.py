"""Attention maps and word alignments."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from samples import sentences
from torch import Tensor

from model.alignment import best_links, link_words, word_of_pieces, word_weights
from model.attention import CrossAttention, SelfAttention
from model.config import ModelConfig, SearchConfig
from model.errors import UserError
from model.explain import attention_maps, source_attention
from model.search import SearchResult
from model.transformer import Transformer, build
from model.translator import Translator
from model.vocabulary import BOS, EOS, Vocabulary

SMALL = {"d_model": 32, "num_heads": 2, "d_ff": 64, "encoder_layers": 2, "decoder_layers": 2, "max_length": 64}
DECODER_ONLY = {**SMALL, "architecture": "decoder-only", "encoder_layers": 0, "decoder_layers": 3}
architectures = pytest.mark.parametrize("choices", [SMALL, DECODER_ONLY], ids=["encoder-decoder", "decoder-only"])


def make(vocabulary: Vocabulary, choices: dict[str, Any]) -> Transformer:
    torch.manual_seed(5)
    model = build(ModelConfig(vocab_size=len(vocabulary), **choices)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@architectures
def test_the_maps_are_what_the_layers_compute_whatever_the_neighbours(
    vocabulary: Vocabulary, choices: dict[str, Any]
) -> None:
    model = make(vocabulary, choices)
    texts = zip(sentences(3), sentences(3, 1), strict=True)
    pairs = [(vocabulary.source_ids(source, "de"), vocabulary.encode(target)) for source, target in texts]
    found = attention_maps(model, pairs)
    for (source, target), maps in zip(pairs, found, strict=True):
        seen: list[Tensor] = []
        hooks = [
            module.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output[1][0]))
            for module in model.modules()
            if isinstance(module, (SelfAttention, CrossAttention))
        ]
        model(torch.tensor([source]), torch.tensor([[BOS, *target]]))
        for hook in hooks:
            hook.remove()
        if "encoder" in maps:
            wanted = {"encoder": seen[:2], "decoder": seen[2::2], "cross": seen[3::2]}
        else:
            wanted = {"decoder": seen}
        assert maps.keys() == wanted.keys()
        for kind, weights in maps.items():
            torch.testing.assert_close(weights, torch.stack(wanted[kind]), atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert not maps["decoder"].triu(1).any()  # nobody sees the future
        assert source_attention(maps, len(source)).shape[2:] == (len(target) + 1, len(source))


@architectures
def test_explain_is_of_the_models_own_translation_or_of_a_given_one(
    vocabulary: Vocabulary, choices: dict[str, Any]
) -> None:
    translator = Translator(make(vocabulary, choices), vocabulary, "random")
    search = SearchConfig(beam_size=2, max_length_ratio=1.0, max_length_offset=0)
    own = translator.explain("  where is my dog?\n", "en", "de", search)
    assert own.translation.text == translator.translate(["  where is my dog?\n"], "en", "de", search)[0].text
    assert own.source_tokens == tuple(map(vocabulary.piece, vocabulary.source_ids("where is my dog?", "de")))
    assert own.target_tokens[1:] == own.translation.hypotheses[0].tokens
    given = translator.explain("where is my dog?", "en", "de", translated_text="wo ist mein Hund?")
    assert given.translation.text == "wo ist mein Hund?"
    assert given.target_tokens[1:] == tuple(map(vocabulary.piece, vocabulary.encode("wo ist mein Hund?")))
    for one in (own, given):
        for kind, weights in one.maps.items():
            assert tuple(map(len, one.labels(kind))) == weights.shape[2:]


def test_what_cannot_be_explained_is_refused(vocabulary: Vocabulary) -> None:
    translator = Translator(make(vocabulary, SMALL), vocabulary, "random")
    with pytest.raises(UserError, match="has 2 sentences"):
        translator.explain("where is my dog? good morning!", "en", "de")
    with pytest.raises(UserError, match="has 0 sentences"):
        translator.explain(" \n", "en", "de")
    with pytest.raises(UserError, match="pieces, the model takes 63"):
        translator.explain("where is my dog?", "en", "de", translated_text="Hund " * 70)
    with pytest.raises(UserError, match="unknown language 'xx'"):
        translator.explain("where is my dog?", "en", "xx")


# Alignments --------------------------------------------------------------------------------------------------------


def test_words_of_pieces(vocabulary: Vocabulary) -> None:
    text = "the 猫 dog🙂 cat"  # characters that become bytes
    ids = vocabulary.source_ids(text, "de")
    numbers = word_of_pieces(vocabulary, ids)
    assert numbers[0] is numbers[-1] is None and ids[-1] == EOS
    words: dict[int, str] = {}
    for id, number in zip(ids, numbers, strict=True):
        if number is not None:
            words[number] = words.get(number, "") + vocabulary.piece(id).strip("\u2581")
    assert list(words) == [0, 1, 2, 3] and (words[0], words[3]) == ("the", "cat")
    assert words[1].startswith("<0xE7>") and words[2].startswith("dog<0xF0>")


def test_weights_of_words_are_means_of_rows_and_sums_of_columns() -> None:
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    found = word_weights(weights, [0, 0], [0, None, 1])
    torch.testing.assert_close(found, torch.tensor([[0.3, 0.475]]))
    assert link_words(weights[None], [0, None, 1], [0, 0]) == [[(1, 0, pytest.approx(0.475 / 0.775))]]
    assert link_words(weights[None], [None] * 3, [0, 1]) == [[]]


def test_the_layer_that_reaches_most_words_aligns() -> None:
    on_separators, aligned = [(2, 0, 0.9), (2, 1, 0.9), (2, 2, 0.9)], [(0, 0, 0.4), (1, 1, 0.4), (2, 2, 0.4)]
    surer = [(0, 0, 0.5), (1, 1, 0.5), (2, 2, 0.5)]
    assert best_links([on_separators, aligned]) == best_links([aligned, on_separators]) == aligned
    assert best_links([surer, on_separators, aligned]) == surer


@architectures
def test_links_are_spans_of_words_in_the_texts(vocabulary: Vocabulary, choices: dict[str, Any]) -> None:
    translator = Translator(make(vocabulary, choices), vocabulary, "random")
    text = "\nthe  cat\u00a0is\u00ad today.\n\n  - where is my dog?  \n"
    search = SearchConfig(beam_size=3, nbest=2, max_length_ratio=1.0, max_length_offset=2)
    (plain,) = translator.translate([text], "en", "de", search)
    (found,) = translator.translate([text], "en", "de", search, alignments=True)
    assert plain == dataclasses.replace(found, hypotheses=plain.hypotheses)
    assert not plain.hypotheses[0].alignment
    for hypothesis in found.hypotheses:
        targets = [hypothesis.text[link.target.start : link.target.end] for link in hypothesis.alignment]
        assert targets == [word for word in hypothesis.text.split() if word != "-"]
        sources = {text[link.source.start : link.source.end] for link in hypothesis.alignment}
        assert sources <= set(text.split()) - {"-"}
        assert all(0.0 < link.weight <= 1.0 for link in hypothesis.alignment)
        middle = hypothesis.text.index("\n\n")
        assert all((link.source.start < 20) == (link.target.start < middle) for link in hypothesis.alignment)


def test_links_of_a_text_in_capitals(vocabulary: Vocabulary) -> None:
    translator = Translator(make(vocabulary, SMALL), vocabulary, "random")
    target = tuple(vocabulary.encode("Spaß ist gut"))
    (translation,) = translator.translate(["WHERE IS MY DOG?"], "en", "de")
    document = translation.document
    assert document is not None
    found = SearchResult(target, -1.0, (-1.0,) * (len(target) + 1))
    (aligned,) = translator.align([translator.assemble(document, [[found]], SearchConfig(beam_size=1))])
    assert aligned.text == "SPAẞ IST GUT"
    links = aligned.hypotheses[0].alignment
    assert [aligned.text[link.target.start : link.target.end] for link in links] == ["SPAẞ", "IST", "GUT"]
