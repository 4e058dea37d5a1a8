"""Marks stay around the words they were around, and what is read is the translation of the sentence."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_round_trip import translated

from service.documents.html import parse
from service.documents.inline import Unit

# A page, what the model makes of its sentence and of each stretch by itself, and what is to come of it
EXAMPLES = [
    # An ending, as the stretch by itself has none
    (
        "I live in a <b>big</b> house.",
        ["Ich wohne in einem großen Haus.", "Ich lebe in einem", "groß", "Haus."],
        "Ich wohne in einem <b>großen</b> Haus.",
    ),
    (
        "A <b>new</b> <i>small</i> dog.",
        ["Ein neuer kleiner Hund.", "A", "neu", "klein", "Hund."],
        "Ein <b>neuer</b> <i>kleiner</i> Hund.",
    ),
    (
        "He bought a *red* car.",
        ["Er hat ein rotes Auto gekauft.", "Er hat einen gekauft ", "rot", " Auto."],
        "Er hat ein *rotes* Auto gekauft.",
    ),
    (
        "My <i>sister</i> is a <b>doctor</b>.",
        ["Meine Schwestern sind Arzt.", "Mein", "Schwester", "ist ein", "Arzt", "."],
        "Meine <i>Schwestern</i> sind <b>Arzt</b>.",
    ),
    # Part of another word
    (
        "The <i>children</i> room is <b>up</b>.",
        ["Das Kinderzimmer ist oben.", "Die", "Kinder", "Zimmer ist", "oben", "."],
        "Das <i>Kinderzimmer</i> ist <b>oben</b>.",
    ),
    ("un<b>believ</b>able", ["unglaublich", "un", "glaub", "lich"], "un<b>glaub</b>lich"),
    # Quotation marks
    (
        'She said "<i>yes</i>", then left.',
        ['Sie sagte "Ja", dann ging sie.', "Sie sagte „", "ja", '", dann links.'],
        'Sie sagte "<i>Ja</i>", dann ging sie.',
    ),
    (
        "She said “*yes*” and left.",
        ["Sie sagte: „Ja“ und ging.", "Sie sagte “", "ja", "“ und ging."],
        "Sie sagte: „*Ja*“ und ging.",
    ),
    (
        'I read "<i>The Trial</i>" and "<b>The Castle</b>".',
        ["Ich las „Den Prozess“ und „Das Schloss“.", 'Ich las "', "Der Prozess", '" und "', "Das Schloss", '".'],
        "Ich las „<i>Den Prozess</i>“ und „<b>Das Schloss</b>“.",
    ),
    ('She said <i>"yes"</i>.', ["Sie sagte: „Ja“.", "Sie sagte", '"ja"', "."], "Sie sagte: <i>„Ja“</i>."),
    # Punctuation of the translation alone
    (
        "Click <a href=u>here</a>\n  to read.",
        ["Klicken Sie hier, um zu lesen.", "Klick", "hier", "um zu lesen."],
        "Klicken Sie <a href=u>hier</a>, um zu lesen.",
    ),
    (
        "The question is <b>who</b> it was.",
        ["Die Frage ist, wer es war.", "Die Frage ist", "wer", "es war."],
        "Die Frage ist, <b>wer</b> es war.",
    ),
    (
        "a **new** *small* dog",
        ["ein neuer, kleiner Hund", "ein ", "neu", "klein", " Hund"],
        "ein **neuer**, *kleiner* Hund",
    ),
    (
        "The <code>print</code> function.",
        ["Die print-Funktion.", "Die", "Funktion."],
        "Die <code>print</code>-Funktion.",
    ),
    # Words of neither: they are on the side of the space
    ("went to <a href=u>market</a>", ["ging auf den Markt", "ging an", "Markt"], "ging auf den <a href=u>Markt</a>"),
    ("<b>Yes</b>\n we came", ["Ja doch, wir kamen", "Ja", "wir kamen"], "<b>Ja</b>\n doch, wir kamen"),
    # Stretches side by side that are not found: each has a word
    (
        "Our <b>small</b> team needs a <i>big</i> office.",
        ["Unsere kleine Firma braucht ein großes Büro.", "Unser", "wenig", "Team muss in", "dick", "Büro."],
        "Unsere <b>kleine</b> Firma braucht <i>ein großes</i> Büro.",
    ),
    # "die", the first translation, is found only behind the words that follow it; the longer ones are right
    (
        "The **old man** and the *woman*.",
        ["Der alte Mann und die Frau.", "Die ", "alter Mann", " und die ", "Frau", "."],
        "Der **alte Mann** und die *Frau*.",
    ),
    (
        "A *big* house and **a big house**.",
        ["Ein großes Haus und ein großes Haus.", "Ein ", "groß", " Haus und ", "ein großes Haus", "."],
        "Ein *großes* Haus und **ein großes Haus**.",
    ),
]


@pytest.mark.parametrize(("page", "translations", "expected"), EXAMPLES)
def test_marks_stand_around_the_right_words(page: str, translations: list[str], expected: str) -> None:
    new = iter(translations)
    assert translated("html" if "<" in page else "markdown", page.encode(), lambda _: next(new))[0].decode() == expected
    assert not list(new)


def words(page: str) -> list[str]:
    return re.findall(r"\w+", html.unescape(re.sub("<[^<>]*>", "", page)))


def inflected(text: str, alone: bool = True) -> str:
    """Each word of several has an ending; one alone has none."""
    return text if alone and len(words(text)) == 1 else re.sub(r"\w+", r"\g<0>en", text)


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(
        st.tuples(st.sampled_from(["one", "two", "three four"]), st.sampled_from("- b i u".split())),
        min_size=1,
        max_size=9,
    ),
    separators=st.lists(st.sampled_from([" ", ", ", " (", '" ', " - "]), min_size=9, max_size=9),
)
@pytest.mark.parametrize(
    ("format", "marks"),
    [
        ("html", {"b": "<b>{}</b>", "i": "<i>{}</i>", "u": "<a href=u><b>{}</b></a>"}),
        ("markdown", {"b": "**{}**", "i": "*{}*", "u": "[**{}**](u)"}),
    ],
)
def test_an_ending_stays_with_its_word(
    format: str, marks: dict[str, str], parts: list[tuple[str, str]], separators: list[str]
) -> None:
    def page(texts: list[str]) -> str:
        marked = [marks.get(mark, "{}").format(text) for text, (_, mark) in zip(texts, parts, strict=True)]
        return "".join(text + separator for text, separator in zip(marked, separators, strict=False)).strip()

    texts = [text for text, _ in parts]
    new = [inflected(text, alone=len(parts) == 1) for text in texts]
    assert translated(format, page(texts).encode(), inflected)[0].decode() == page(new)


PARTS = ["<b>one</b>", "<i>(two)</i>", "o<b>n</b>e", "one", "<code>x y</code>", " ", " ", ", ", '"']
WORDS = ["one", "oneen", "twoone", "two", "x y"]


@settings(max_examples=500, deadline=None)
@given(parts=st.lists(st.sampled_from(PARTS), min_size=3), data=st.data())
def test_no_word_is_torn_whatever_the_translations(parts: list[str], data: st.DataObject) -> None:
    """The words are those of the sentence, or else of its stretches joined, as where the sentence became nothing."""
    separators = st.sampled_from([" ", ", ", ' "', "-"])
    for unit in parse("".join(parts), "en"):
        if isinstance(unit, Unit) and len(unit.texts) > 1:
            whole = data.draw(separators).join(data.draw(st.lists(st.sampled_from(WORDS), min_size=2)))
            alone = [data.draw(st.sampled_from(WORDS)) for _ in unit.texts[1:]]
            assert words(unit.render([whole, *alone])) in (words(whole), words(unit.render(["", *alone])))
