from __future__ import annotations

import itertools
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.segment import BLOCK, Segment, in_capitals, is_capitals, normalise, split, without_capitals

# Characters that go wrong together: white space of all kinds, marks, emoji parts, RTL, quotes, terminators, controls.
AWKWARD = (
    "aAéß19.!?…,;:-–*#>\"'„“”’«»()[]。！、中नमि\u0301\u0323שא\u200f\u200e\u200d\ufeff\ufe0f😀👩👍\U0001f3fd🇩🇪"
    " \x81\x84\x93\xa0\u202f\u3000\t\n\r\x0b\x0c\x1c\x1e\x85\u2028\u2029\x00\x07\x7f\ud800\udfff\ue000\ufdd0"
)
texts = st.one_of(
    st.text(st.characters(), max_size=80),  # every code point, lone surrogates too
    st.text(st.sampled_from(AWKWARD), max_size=80),
    st.lists(
        st.sampled_from(["Hello", "Dr.", "3.", "Oktober", "z. B.", "-", "1.", "!?", "  ", "\n", "„Ja“", "x@y.z"])
    ).map(" ".join),
)
languages = st.sampled_from(["en", "de", "zh", "ar", "hi", "xx", "", "de-AT", "EN_us"])
lengths: st.SearchStrategy[Callable[[str], int]] = st.sampled_from(
    [len, lambda text: len(text.encode()), lambda text: len(text) // 4 + 1, lambda text: len(text.split())]
)


def show(text: str, language: str = "en", limit: int = 1000) -> list[str]:
    """The translated segments."""
    segments = split(text, language, len, limit)
    assert "".join(segment.text for segment in segments) == text
    return [segment.text for segment in segments if segment.translate]


@settings(deadline=None)  # the machine may be busy
@given(texts, languages, lengths, st.integers(1, 40))
def test_any_text_is_kept_and_the_limit_holds(
    text: str, language: str, length: Callable[[str], int], limit: int
) -> None:
    segments = split(text, language, length, limit)
    assert "".join(segment.text for segment in segments) == text
    for segment in segments:
        assert segment.text
        if segment.translate:
            assert segment.text == segment.text.strip()
            assert length(segment.text) <= limit
            assert any(character.isalnum() for character in segment.text)
            segment.text.encode()  # no lone surrogate reaches SentencePiece
            assert not any(unicodedata.category(character) == "Cc" for character in normalise(segment.text))
            assert len(segment.text.splitlines()) == 1


@settings(deadline=None)
@given(texts, languages)
def test_every_letter_is_translated_where_nothing_is_special(text: str, language: str) -> None:
    """Only markers ("1) "), addresses and private characters may keep a letter from translation."""
    kept = "".join(segment.text for segment in split(text, language, len, 1000) if not segment.translate)
    if "@" not in text and "//" not in text and "www" not in text and "[" not in text:
        assert not any(character.isalpha() for character in kept)


@settings(deadline=None)
@given(texts, languages)
def test_lines_are_independent(text: str, language: str) -> None:
    lines = text.split("\n")
    whole = [segment for segment in split(text, language, len, 1000) if segment.translate]
    one_by_one = [segment for line in lines for segment in split(line, language, len, 1000) if segment.translate]
    assert whole == one_by_one


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Where is it?", "I am here.", "Yes, of course!", "Das ist gut.", "Er kam um 5 Uhr."])))
def test_sentences_are_found_and_splitting_again_changes_nothing(sentences: list[str]) -> None:
    found = show(" ".join(sentences))
    assert found == sentences
    assert all(split(sentence, "en", len, 1000) == [Segment(sentence, True)] for sentence in found)


@pytest.mark.parametrize(
    ("language", "line"),
    [
        ("en", "Mr. Smith met Dr. Jones and Ms. Ionescu at 3.5 p.m. in St. Louis."),
        ("en", "He was heard at Ft. Meade."),
        ("en", '"Really?" she asked.'),
        ("en", 'What does it "bring"? asks Ms Plamondon.'),
        ("en", "Wait... what?"),
        ("en", "Visit https://a.example.com/x.html?y=1&z=Hello.World for more."),
        ("en", "Write to john.Doe@Example.org today."),
        ("en", "It costs $3.50 or 1,000.25 in all."),
        ("en", "J. R. R. Tolkien wrote it."),
        ("en", "You use System.Out.println here."),
        ("de", "Am 3. Oktober kam Dr. Müller, z. B. mit 3,5 kg."),
        ("de", "3. Oktober 1990 war der Tag."),
        ("de", "Am 3.\xa0Oktober kam er, z.\u202fB. mit dem Zug."),
        ("de", "Das war im 19. Jahrhundert im Süden."),
        ("de", "Der 1. FC Köln spielt heute."),
        ("de", "Siehe Abb. Drei oder Kap. Fünf."),
        ("de", "„Wie bitte?“, fragte sie."),
        ("de", "1. Schritt zur Lösung"),
        ("fi", "Hän tuli 3. Lokakuuta kotiin."),
        ("xx", "Any language code will do."),
        ("en", "3.5"),
    ],
)
def test_one_sentence_stays_one(language: str, line: str) -> None:
    assert split(line, language, len, 1000) == [Segment(line, True)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "What?! No!!! Yes...", ["What?!", "No!!!", "Yes..."]),
        ("en", "“I know.” She left.", ["“I know.”", "She left."]),
        ("de", "Er ist 25. Sie ist 30.", ["Er ist 25.", "Sie ist 30."]),
        ("de", "Das war 1990. Danach kam er.", ["Das war 1990.", "Danach kam er."]),
        ("xx", "One two. Three four.", ["One two.", "Three four."]),
        ("zh", "你好。世界！", ["你好。", "世界！"]),
        ("en", "Good morning.\n\nHow are you?\n", ["Good morning.", "How are you?"]),
        ("en", "a\r\nb\rc\x0bd\x0ce\x85f\u2028g\u2029h\x1ei", list("abcdefghi")),
        ("en", "left\tright\x00more", ["left", "right", "more"]),
        ("en", "Name     Age    City", ["Name", "Age", "City"]),
        ("en", "\ufeffHello 😀🎉", ["Hello"]),
        ("en", "Great! 👍🏽 Thanks. ❤️", ["Great!", "Thanks."]),
        ("en", "- A\n* B\n  > C\n## D\n1. E\n2) F\n- [ ] G h", ["A", "B", "C", "D", "E", "F", "G h"]),
        ("de", "1. Die Butter\n- 3. Oktober", ["Die Butter", "3. Oktober"]),
        ("de", "1. Wasser kochen\n 2. Tee trinken\na) Milch", ["Wasser kochen", "Tee trinken", "Milch"]),
        ("de", "2. Platz für uns\n5. Rang", ["2. Platz für uns", "5. Rang"]),
        ("de", "3. Oktober\n4. Oktober\n5. Platz", ["3. Oktober", "4. Oktober", "5. Platz"]),
        ("en", "- 5 apples", ["5 apples"]),
        ("en", "-5 degrees", ["-5 degrees"]),
    ],
)  # fmt: skip
def test_sentences_between_verbatim_text(language: str, text: str, expected: list[str]) -> None:
    assert show(text, language) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\n",
        "---",
        "***",
        "…?",
        "😀😀",
        "👩\u200d👩\u200d👧",
        "42",
        "12:30",
        "\x00\x01",
        "\ud800",
        "1. ",
        "> ",
        "https://a.de/B?c",
        "a.b@c.org",
    ],
)
def test_nothing_to_translate(text: str) -> None:
    assert split(text, "en", len, 1000) == ([Segment(text, False)] if text else [])


def test_long_sentence_is_cut_at_the_clause_nearest_to_balance() -> None:
    assert show("We came, we saw the town; we left again, all of us", limit=40) == [
        "We came, we saw the town;",
        "we left again, all of us",
    ]
    assert show("one two three four five six seven eight", limit=30) == ["one two three four", "five six seven eight"]
    assert show("a" * 30, limit=20) == ["a" * 15, "a" * 15]


@pytest.mark.parametrize("unit", ["e\u0301\u0323", "x👩\u200d👩\u200d👧", "नि", "क्\u200dष", "z❤\ufe0f"])
def test_cuts_keep_combined_characters_together(unit: str) -> None:
    segments = split("a" + unit * 40 + "b", "en", len, 20)
    assert len(segments) > 3
    for left, right in itertools.pairwise(segment.text for segment in segments):
        assert left[-1] != "\u200d"
        assert right[0] not in "\u0301\u0323ि्\u200d\ufe0f"


def test_no_panic_for_a_no_break_space(capfd: pytest.CaptureFixture[str]) -> None:
    """sentencex 1.0.32 panics here, and prints a Rust traceback, if it is given the text as it is."""
    assert show("See option A\xa0. Then go.") == ["See option A\xa0.", "Then go."]
    assert capfd.readouterr().err == ""


def test_a_character_over_the_limit_is_kept() -> None:
    assert split("aéa", "en", lambda text: len(text.encode()), 1) == [
        Segment("a", True),
        Segment("é", False),
        Segment("a", True),
    ]


def test_limit_below_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="limit = 0"):
        split("text", "en", len, 0)


@pytest.mark.parametrize(
    "unit", ["a", "ab ", "Hello. ", "„a. ", "中", "e\u0301", "😀", "-", "\n", "- ", "a.B", " ", "1. "]
)
def test_a_line_of_a_megabyte_is_fast_and_measured_few_times(unit: str) -> None:
    text = unit * (1_000_000 // len(unit.encode()))
    measured = 0

    def length(part: str) -> int:
        nonlocal measured
        measured += len(part)
        return len(part)

    start = time.process_time()
    segments = split(text, "en", length, 200)
    assert time.process_time() - start < 8  # 1 to 2 s on a free core
    assert measured <= 4 * len(text)
    assert "".join(segment.text for segment in segments) == text
    assert all(len(segment.text) <= 200 for segment in segments if segment.translate)


def test_sentences_across_blocks_are_whole() -> None:
    sentence = "This is one of very many sentences in a line. "
    text = sentence * 1000
    assert len(text) > 3 * BLOCK
    assert show(text) == [sentence.strip()] * 1000


class PanicException(BaseException):
    """Named as the one of a Rust panic."""


@pytest.mark.parametrize("fault", ["panic", "lossy"])
def test_a_faulty_sentence_splitter_costs_only_the_boundaries(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def faulty(language: str, text: str) -> list[str]:
        if fault == "panic":
            raise PanicException
        return [text[:3], text[4:]]

    monkeypatch.setattr("sentencex.segment", faulty)
    assert show("Hello there. Bye.\nNext one.") == ["Hello there. Bye.", "Next one."]


def test_other_exceptions_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(language: str, text: str) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("sentencex.segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        split("Hello there.", "en", len, 100)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("DO NOT OPEN THIS DOOR.", "Do not open this door."),
        ("I THINK I'M LATE", "I think I'm late"),
        ("»DAS IST GROẞ!«", "»Das ist groß!«"),
        ("STOP! 3 DAYS LEFT FOR {NAME}", "Stop! 3 days left for {NAME}"),
        ("SEND %s TO {Name}", "Send %s to {Name}"),
    ],
)
def test_what_is_all_in_capitals_is_read_as_a_sentence(text: str, read: str) -> None:
    assert is_capitals(text) and without_capitals(text) == read
    assert in_capitals(read) == text


@pytest.mark.parametrize("text", ["NASA", "NASA and ESA", "I A B C", "Use %s NOW", "", "123 !", "日本 語"])
def test_these_are_not_all_in_capitals(text: str) -> None:
    assert not is_capitals(text)


@given(texts)
def test_capitals_keep_every_place(text: str) -> None:
    assert len(in_capitals(text)) == len(text)


def test_controls_that_stand_for_quotation_marks_are_a_part_of_their_sentence() -> None:
    assert show("\x84Hallo.\x93\x81Don\x92t\x85Ja.") == ["\x84Hallo.\x93", "Don\x92t", "Ja."]
    assert show("HTTPS://EXAMPLE.ORG/A") == []
