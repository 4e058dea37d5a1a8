from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.errors import CheckpointError, UserError
from model.vocabulary import BOS, CONTROL_SYMBOLS, EOS, NONCHARACTERS, PAD, UNK, Vocabulary

# What could be mistaken for control tokens, byte pieces, or SentencePiece's own marks
TRICKY = "\u2581|<2de>|<s>|</s>|<unk>|<pad>|<to>|<0x41>|\u2047|\0|  |\n|\ufdd0|die".split("|")
texts = st.lists(st.one_of(st.sampled_from(TRICKY), st.text(max_size=8)), max_size=8).map("".join)


@given(text=texts, bpe_dropout=st.sampled_from([0.0, 0.3, 0.99]))
@example(text=" leading and trailing ", bpe_dropout=0.0)
@example(text="\U0010ffff\ud7ff\ue000\ufeff a\u0300 \u00a0\u3000\r\n\t", bpe_dropout=0.0)
@settings(max_examples=150, deadline=None)
def test_any_text_survives_and_none_becomes_a_control_token(
    vocabulary: Vocabulary, text: str, bpe_dropout: float
) -> None:
    ids = vocabulary.encode(text, bpe_dropout)
    assert vocabulary.decode(ids) == text
    assert not any(vocabulary.is_control(id) or id == UNK for id in ids)


@given(st.lists(st.integers(0, 399)))
@settings(max_examples=50, deadline=None)
def test_any_ids_decode_to_text(vocabulary: Vocabulary, ids: list[int]) -> None:
    """A model may write any bytes: what is no UTF-8 becomes U+FFFD, special tokens vanish."""
    text = vocabulary.decode(ids)
    text.encode()
    assert text == vocabulary.decode([id for id in ids if id != UNK and not vocabulary.is_control(id)])


def test_special_ids(vocabulary: Vocabulary) -> None:
    assert [vocabulary.piece(i) for i in (PAD, UNK, BOS, EOS)] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert vocabulary.languages == ("de", "en")
    assert len(vocabulary) == 400
    assert all(vocabulary.is_control(vocabulary.id(symbol)) for symbol in CONTROL_SYMBOLS)
    writable = set(range(len(vocabulary))) - set(vocabulary.unwritable)
    assert EOS in writable
    assert not {PAD, UNK, BOS, vocabulary.tag("de"), vocabulary.tag("en")} & writable
    assert len(vocabulary.unwritable) == 3 + 2 + len(CONTROL_SYMBOLS)


def test_source_and_target(vocabulary: Vocabulary) -> None:
    pieces = vocabulary.encode("wo ist die Katze")
    assert vocabulary.source_ids("wo ist die Katze", "en") == [vocabulary.tag("en"), *pieces, EOS]
    assert vocabulary.target_ids("wo ist die Katze") == [*pieces, EOS]
    assert vocabulary.source_ids("", "de") == [vocabulary.tag("de"), EOS]


@pytest.mark.parametrize("language", ["fr", "", "DE", "<2de>", "reserved0"])
def test_an_unknown_language_is_an_error_that_names_the_known_ones(vocabulary: Vocabulary, language: str) -> None:
    with pytest.raises(UserError, match="this model knows de, en"):
        vocabulary.source_ids("x", language)


def test_bpe_dropout_varies_and_repeats_with_the_seed(vocabulary: Vocabulary) -> None:
    """Reseeding works at any time: an exact resume of training depends on it."""
    text = "where is the station this morning please"

    def draws() -> list[list[int]]:
        return [vocabulary.encode(text, 0.3) for _ in range(10)]

    vocabulary.seed(5)
    first = draws()
    assert len({tuple(ids) for ids in first}) > 1
    other = draws()
    vocabulary.seed(5)
    assert draws() == first != other


def test_all_placeholders_taken_is_an_error_not_a_wrong_text(vocabulary: Vocabulary) -> None:
    assert vocabulary.decode(vocabulary.encode("".join(NONCHARACTERS))) == "".join(NONCHARACTERS)
    with pytest.raises(UserError, match=r"U\+2581"):
        vocabulary.encode("\u2581" + "".join(NONCHARACTERS))


def test_half_a_character_is_refused(vocabulary: Vocabulary) -> None:
    for dropout in (0.0, 0.5):
        with pytest.raises(UserError, match="half a surrogate pair"):
            vocabulary.encode("caf\udce9", dropout)


def test_save_and_load(vocabulary: Vocabulary, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.model"
    path.write_bytes(vocabulary.model)
    loaded = Vocabulary.load(path)
    assert (loaded.model, loaded.languages, len(loaded)) == (vocabulary.model, ("de", "en"), 400)


def test_bad_input_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.model"):
        Vocabulary.load(tmp_path / "nothing.model")
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        Vocabulary(b"\x01garbage")
    with pytest.raises(UserError, match="use a smaller size") as error:
        Vocabulary.train(["too little text"], 8000, ["de", "en"], threads=1)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"required_chars.*; use a larger size$"):
        Vocabulary.train(["".join(chr(0x4E00 + i) for i in range(200))] * 5, 300, ["de", "en"], threads=1)


def test_digits_are_pieces_of_their_own() -> None:
    fresh = Vocabulary.train([f"in 2024 and {i % 7}2024 times" for i in range(500)], 300, ["de", "en"], threads=1)
    pieces = [fresh.piece(id).strip("\u2581") for id in fresh.encode("in 2024")]
    assert all(len(piece) == 1 for piece in pieces if any(map(str.isdigit, piece)))
