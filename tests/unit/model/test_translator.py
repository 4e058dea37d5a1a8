from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from model import checkpoint, engine
from model import translator as module
from model.config import ModelConfig, SearchConfig
from model.engine import Engine
from model.errors import UserError
from model.glossary import Glossary, Term, not_placed
from model.int8 import unsupported
from model.transformer import EncoderDecoder
from model.translator import Translator
from model.vocabulary import EOS, Vocabulary

TEXT = "the cat is today.\n\n  where is my dog? good morning!"


@pytest.fixture(scope="module")
def wide(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a shape that the 8-bit kernels take, which knows forms of address."""
    torch.manual_seed(2)
    config = ModelConfig(
        vocab_size=len(vocabulary),
        d_model=64,
        num_heads=2,
        d_ff=64,
        encoder_layers=1,
        decoder_layers=1,
        max_length=160,
        formality=["de"],  # type: ignore[arg-type]  # as it is read from a file
    )
    directory = tmp_path_factory.mktemp("wide") / "wide"
    checkpoint.save(directory, config, EncoderDecoder(config).state_dict(), vocabulary, "# wide\n")
    return directory


def test_prepare_search_and_assemble_are_translate(wide: Path) -> None:
    translator, search = Translator.load(wide, dtype="float32"), SearchConfig(beam_size=2, nbest=2)
    (whole,) = translator.translate([TEXT], "en", "de", search)
    document = translator.prepare(TEXT, "en", "de")
    assert "".join(part.text for part in document.segments) == TEXT
    assert len(document.sources) == 3
    pool = translator.pool(search)
    order = {ticket: i for i, ticket in enumerate(pool.add(document.sources))}
    results = [[] for _ in document.sources]  # type: ignore[var-annotated]
    while len(pool):
        for ticket, found in pool.step():
            results[order[ticket]] = found
    assert translator.assemble(document, results, search).text == whole.text
    assert len(whole.hypotheses) == 2


def test_the_form_of_address_is_a_tag_behind_the_language(wide: Path) -> None:
    translator = Translator.load(wide, dtype="float32")
    vocabulary = translator.vocabulary
    for formality in ("formal", "informal"):
        (source,) = translator.prepare("the cat", "en", "de", formality).sources
        assert source[:2] == (vocabulary.tag("de"), vocabulary.id(f"<{formality}>")) and source[-1] == EOS
    assert translator.prepare("the cat", "en", "de").sources[0] == tuple(vocabulary.source_ids("the cat", "de"))


def test_a_form_of_address_that_cannot_be_had_is_refused(wide: Path, checkpoint_directory: Path) -> None:
    translator = Translator.load(wide)
    translator.check("en", "de", "formal")
    with pytest.raises(UserError, match="formality = formal is not to be had in 'en'"):
        translator.translate(["a"], "de", "en", formality="formal")
    with pytest.raises(UserError, match="unknown formality 'polite'; choose from default, formal, informal"):
        translator.translate(["a"], "en", "de", formality="polite")
    with pytest.raises(UserError, match="this model: no language"):
        Translator.load(checkpoint_directory).check("en", "de", "informal")


@pytest.mark.parametrize("beam_size", [1, 3])
def test_all_arithmetics_translate(wide: Path, beam_size: int) -> None:
    texts = [TEXT, "", "the cat is today.", *(f"my coffee {i} is good" for i in range(20))]
    for dtype in ("auto", "float32", "bfloat16", "int8"):
        if dtype == "int8" and unsupported(Translator.load(wide, dtype="float32").model):
            continue
        translator = Translator.load(wide, dtype=dtype)
        assert translator.dtype in ("float32", "bfloat16", "int8") and dtype in ("auto", translator.dtype)
        done: list[int] = []
        found = translator.translate(texts, "en", "de", SearchConfig(beam_size=beam_size), done.append)
        assert [t.text for t in found] == [
            translator.translate([text], "en", "de", SearchConfig(beam_size=beam_size))[0].text for text in texts
        ]
        assert sum(done) == 23 and found[1].text == ""


def test_what_this_machine_or_model_cannot_do_is_said(checkpoint_directory: Path) -> None:
    with pytest.raises(UserError, match="dtype int8 cannot be had: "):
        Translator.load(checkpoint_directory, dtype="int8")
    with pytest.raises(UserError, match="unknown dtype 'int4'"):
        Translator.load(checkpoint_directory, dtype="int4")


def test_several_threads_give_what_one_gives(wide: Path) -> None:
    translator = Translator.load(wide)
    texts = [f"my dog {i} is good" for i in range(40)]
    alone = [t.text for t in translator.translate(texts, "en", "de")]
    torch.set_num_threads(3)
    try:
        assert [t.text for t in translator.translate(texts, "en", "de")] == alone
    finally:
        torch.set_num_threads(1)


GLOSSARY = Glossary.of(
    [("cat", "Mieze Zorkwill"), ("dog", "\U0001f984 Häuser"), ("my coffee", "9,5 Tassen")], ignore_case=True
)


@pytest.mark.parametrize("dtype", ["float32", "auto"])
@pytest.mark.parametrize("beam_size", [1, 5])
def test_terms_come_out_as_given(wide: Path, dtype: str, beam_size: int) -> None:
    """Of a model that knows nothing, too: random weights copy no term by themselves."""
    translator = Translator.load(wide, dtype=dtype)
    texts = [
        "the Cat is today.",
        "where is my dog? My coffee is good.\n",
        "the dog, the cat and the dog",
        "good morning",
    ]
    search = SearchConfig(beam_size=beam_size)
    found = translator.translate(texts, "en", "de", search, glossary=GLOSSARY)
    for text, translation in zip(texts, found, strict=True):
        assert not not_placed([match.term for match in GLOSSARY.find(text)], translation.text)
        assert all(one.code != "GLOSSARY_TERM_NOT_PLACED" for one in translation.warnings)
    alone = [translator.translate([text], "en", "de", search, glossary=GLOSSARY)[0] for text in texts]
    assert [one.text for one in found] == [one.text for one in alone]
    assert found[3].text == translator.translate(texts[3:], "en", "de", search)[0].text  # has no term: nothing changes


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_second_search_places_the_numbers_that_the_first_lost(wide: Path, beam_size: int) -> None:
    translator = Translator.load(wide, dtype="float32")
    texts = ["the cat is 1721 today. good morning!", "2010 where is my dog on 24.12.2023?"]
    found = translator.translate(texts, "en", "de", SearchConfig(beam_size=beam_size))
    for translation, numbers in zip(found, (["1721"], ["2010", "24.12.2023"]), strict=True):
        assert not not_placed([Term(number, number) for number in numbers], translation.text)
    terms = Glossary.of([("cat", "Modell 1721")])  # a number of a term stands there once
    (found_once,) = translator.translate(["the cat is today."], "en", "de", SearchConfig(beam_size=3), glossary=terms)
    assert found_once.text.count("1721") == 1
    (drawn,) = translator.translate(texts[:1], "en", "de", SearchConfig(beam_size=1, sampling=True))
    assert "ITEM_CHANGED" in {warning.code for warning in drawn.warnings}  # it cannot be sure


def test_the_model_reads_the_translation_of_a_term(wide: Path) -> None:
    translator = Translator.load(wide, dtype="float32")
    document = translator.prepare("see the cat at https://cat.example/cat", "en", "de", glossary=GLOSSARY)
    assert document.sentences == ("see the Mieze Zorkwill at https://cat.example/cat",)  # an item stays as it is
    assert document.sources == translator.prepare(document.sentences[0], "en", "de").sources
    assert [match.term.source for match in document.terms[0]] == ["cat"]


def test_alignments_are_of_the_words_of_the_text(wide: Path) -> None:
    """Not of those that the model reads instead."""
    text = "good morning.  the  Cat is here"
    (found,) = Translator.load(wide, dtype="float32").translate([text], "en", "de", glossary=GLOSSARY, alignments=True)
    best = found.hypotheses[0]
    words = {text[link.source.start : link.source.end] for link in best.alignment}
    assert best.alignment and words <= {"good", "morning.", "the", "Cat", "is", "here"}
    assert all(0 <= link.target.start < link.target.end <= len(best.text) for link in best.alignment)


def test_a_term_in_two_sentences_is_a_warning(wide: Path) -> None:
    glossary = Glossary.of([("cat . The dog", "Tiere")])
    (found,) = Translator.load(wide, dtype="float32").translate(
        ["the cat. The dog is good."], "en", "de", glossary=glossary
    )
    assert [(one.code, one.detail) for one in found.warnings if one.code.startswith("GLOSSARY")] == [
        ("GLOSSARY_TERM_NOT_PLACED", "cat . The dog")
    ]


def test_a_glossary_is_not_for_sampling(wide: Path) -> None:
    with pytest.raises(UserError, match="a glossary cannot be followed with sampling"):
        Translator.load(wide).translate(["a"], "en", "de", SearchConfig(beam_size=1, sampling=True), glossary=GLOSSARY)


def test_what_is_no_list_of_texts_or_no_glossary_is_refused(wide: Path) -> None:
    translator = Translator.load(wide, dtype="float32")
    with pytest.raises(UserError, match="texts is a single text: give a list of texts"):
        translator.translate("Hello", "en", "de")
    with pytest.raises(UserError, match=r"texts\[1\] is of type NoneType: give a str"):
        translator.translate(["a", None], "en", "de")  # type: ignore[list-item]
    with pytest.raises(UserError, match="glossary is of type dict: give a Glossary"):
        translator.translate(["a"], "en", "de", glossary={"house": "Bude"})  # type: ignore[arg-type]


def test_what_nobody_uses_any_more_is_freed_at_once(checkpoint_directory: Path) -> None:
    """Not by the collector of cycles, which does not look at what was frozen."""
    translator = Translator.load(checkpoint_directory)
    assert translator.translate(["the cat is here"], "en", "de")[0].text
    kept = weakref.ref(translator), weakref.ref(translator.model)
    del translator
    assert [one() for one in kept] == [None, None]


def test_a_sentence_longer_than_training_saw_is_cut_and_a_cut_target_is_warned_of(
    tiny_model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    translator = Translator(tiny_model, vocabulary, "tiny")
    monkeypatch.setattr(module, "SENTENCE_PIECES", 20)
    document = translator.prepare("the cat is here " * 60, "en", "de")
    assert max(map(len, document.sources)) <= 20 + 2
    search = SearchConfig(beam_size=1, max_length_ratio=1e-3, max_length_offset=1)
    (found,) = translator.translate(["where is my coffee"], "en", "de", search)
    assert "LENGTH_LIMIT" in [warning.code for warning in found.warnings]


def test_auto_takes_the_fastest_and_leaves_the_weights(
    tiny_model: EncoderDecoder, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: weight.clone() for name, weight in tiny_model.state_dict().items()}
    monkeypatch.setattr(engine, "unsupported", lambda model: "no kernels")
    for times, wanted in (
        ({"float32": 1.0, "bfloat16": 2.0}, "float32"),
        ({"float32": 2.0, "bfloat16": 1.0}, "bfloat16"),
    ):

        def time_(self: Engine, dtype: str, times: dict[str, float] = times) -> float:
            self._use(dtype)
            return times[dtype]

        monkeypatch.setattr(Engine, "_time", time_)
        model = EncoderDecoder(tiny_model.config).eval()
        model.load_state_dict(before)
        translator = Translator(model, vocabulary, "tiny", dtype="auto")
        assert translator.dtype == wanted
        if wanted == "float32":
            assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
