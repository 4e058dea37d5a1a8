from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import UserError
from model.glossary import Glossary, Term, not_placed, occurrences, origins, replaced

PAIRS = [("cat", "Katze"), ("house", "Haus"), ("house cat", "Hauskatze"), ("New  York", "Neu-York"), ("C++", "Zeh")]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A cat.", "A Katze."),
        ("cats, concat, cat_2", "cats, concat, Katze_2"),  # whole words; a low line parts them
        ("(cat)/cat-cat's", "(Katze)/Katze-Katze's"),
        ("house cat house", "Hauskatze Haus"),  # the longest of those that begin together
        ("my house\n cat", "my Hauskatze"),  # whatever white space
        ("New York is not New-York", "Neu-York is not New-York"),
        ("Cat", "Cat"),
        ("C++ and C", "Zeh and C"),
        ("", ""),
    ],
)
def test_where_terms_are_found(text: str, found: str) -> None:
    assert replaced(text, Glossary.of(PAIRS).find(text)) == found


def test_any_case_where_asked() -> None:
    text = "CAT Cat NEW YORK"
    assert replaced(text, Glossary.of(PAIRS, ignore_case=True).find(text)) == "Katze Katze Neu-York"


def test_of_overlapping_terms_the_first_wins() -> None:
    assert replaced("a b c d", Glossary.of([("a b", "1"), ("b c d", "2")]).find("a b c d")) == "1 c d"


def test_own_terms_before_those_of_the_base() -> None:
    glossary = Glossary.of([("cat", "Kater")], base=Glossary.of(PAIRS))
    assert replaced("cat, house cat, house", glossary.find("cat, house cat, house")) == "Kater, Hauskatze, Haus"


def test_candidates_are_all_terms_that_may_be_found() -> None:
    assert {term.source for term in Glossary.of(PAIRS).candidates("a house cat")} == {"cat", "house", "house cat"}


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", "b"), ("", "c")], "term 2: the source term is empty"),
        ([("a", " ")], "term 1: the target term is empty"),
        ([("a" * 201, "b")], "term 1: the source term has 201 characters, the limit is 200"),
        ([("a b", "c"), ("a  b", "d")], "term 2: 'a b' has two translations"),
    ],
)
def test_what_is_no_glossary(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Glossary.of(pairs)


def test_a_term_may_be_repeated() -> None:
    assert len(Glossary.of([("a", "b"), ("a", "b")]).find("a a")) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it holds no term"),
        (b"a\tb\n\nc\n", "line 3: 1 columns, not 2"),
        (b"a\tb\tc", "line 1: 3 columns, not 2"),
        (b"a\t\xff", "byte 3 is not valid UTF-8"),
        (b"a\tb\na\tc\n", "term 2: 'a' has two translations"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "terms.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"glossary {path}.*{message}"):
        Glossary.load(path)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_bytes(b"\xef\xbb\xbfcat\tKatze\r\n\r\nNew York\tNeu-York\r\n")
    glossary = Glossary.load(tmp_path / "terms.tsv")
    assert glossary.terms == (Term("cat", "Katze"), Term("New York", "Neu-York"))
    with pytest.raises(UserError, match="cannot read the glossary /none"):
        Glossary.load("/none")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Katze Katze Haus", []),
        ("Katze Katzen Haus", ["cat"]),  # a word of its own
        ("Hauskatze", ["cat", "house"]),
        ("Katze-Katze (Haus)", []),
    ],
)
def test_what_did_not_find_its_place(text: str, missing: list[str]) -> None:
    cat, house = Term("cat", "Katze"), Term("house", "Haus")
    assert [term.source for term in not_placed([cat, cat, house], text)] == missing


def test_the_longest_of_overlapping_terms_counts() -> None:
    assert occurrences(["Kern", "Kern Haus"], "Kern Haus, Kern") == {"Kern": 1, "Kern Haus": 1}


def test_where_the_words_come_from() -> None:
    glossary, text = Glossary.of([("New York", "Neu-York"), ("cat", "Kater Murr")]), "My cat, in New York today"
    matches = glossary.find(text)
    assert replaced(text, matches) == "My Kater Murr, in Neu-York today"
    assert origins(text, matches) == [(0, 0), (1, 1), (1, 1), (2, 2), (3, 4), (5, 5)]
    assert origins(text, []) == [(i, i) for i in range(6)]


words = st.lists(st.sampled_from(["cat", "house", "New", "York", "C", "+", "+", "x"]), max_size=12)


@given(words)
def test_what_is_replaced_is_placed_and_nothing_else_changes(words: list[str]) -> None:
    glossary, text = Glossary.of(PAIRS), " ".join(words)
    matches = glossary.find(text)
    new = replaced(text, matches)
    assert not not_placed([match.term for match in matches], new)
    assert all(one.end <= two.start for one, two in itertools.pairwise(matches))
    for match in reversed(matches):
        assert text[match.start : match.end].split() == match.term.source.split() or "+" in match.term.source
        text = text[: match.start] + match.term.target + text[match.end :]
    assert text == new
