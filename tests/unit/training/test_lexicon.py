"""What is kept of a dictionary, on a corpus small enough to check by hand."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from training.lexicon import KEPT, useful_entries

CORPUS = [
    ("The frog sits there.", "Der Frosch sitzt da."),
    ("A frog and a castle", "Ein Frosch und ein Schloss"),
    *[(f"The castle is {a}.", f"Das Schloss ist {b}.") for a, b in zip("abcde", "vwxyz", strict=True)],
    ("I pay the bill.", "Ich bezahle die Rechnung."),
    ("Here is the list.", "Hier ist die Liste."),
    ("natural gas is cheap", "Erdgas ist billig"),
    ("Gas is natural.", "Gas ist natürlich."),
]


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([("frog", "Schloss"), ("frog", "Frosch")], [("frog", "Frosch")]),  # the lock: there once, the animal twice
        ([("frog", "Strahl"), ("mahogany", "Mahagoni")], []),  # words that the corpus does not use
        ([("Natural gas", "Erdgas"), ("natural gas", "Gas")], [("Natural gas", "Erdgas"), ("natural gas", "Gas")]),
        ([("to pay", "bezahle"), ("pay", "bezahle")], [("to pay", "bezahle")]),  # the same entry twice
        ([("list", "Rechnung"), ("list", "Ist")], [("list", "Ist")]),  # never together: the more frequent one
        ([("the frog sits there is", "Frosch")], []),  # an explanation
        ([("...", "Frosch"), ("frog", "")], []),
    ],
)
def test_which_entries_are_kept(entries: list[tuple[str, str]], kept: list[tuple[str, str]]) -> None:
    assert list(useful_entries(entries, CORPUS)) == kept


def test_of_many_translations_the_best_are_kept() -> None:
    corpus = [("word", f"t{i}a") for i in "bcde"] * 3 + [("word", "tba")]
    entries = [("word", f"t{i}a") for i in "bcde"]
    found = list(useful_entries([(s, t.replace("t", "x")) for s, t in entries], corpus))
    assert found == []
    words = [("word", "eins"), ("word", "zwei"), ("word", "drei")]
    corpus = [("word", "eins"), ("word", "eins"), ("word", "zwei"), ("word", "zwei"), ("word", "drei")]
    assert list(useful_entries(words, corpus)) == words[:KEPT]


def test_the_command(tmp_path: Path) -> None:
    lexicon, corpus = tmp_path / "lexicon.tsv.gz", tmp_path / "corpus.tsv"
    lexicon.write_bytes(gzip.compress(b"frog\tFrosch\nfrog\tSchloss\n"))
    corpus.write_text("".join(f"{a}\t{b}\n" for a, b in CORPUS))
    command = [
        sys.executable,
        "-m",
        "training.lexicon",
        str(lexicon),
        str(corpus),
        "-o",
        str(tmp_path / "new" / "out.tsv"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 of 2 entries" in done.stdout
    assert (tmp_path / "new" / "out.tsv").read_text() == "frog\tFrosch\n"
