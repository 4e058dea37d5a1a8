from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.errors import UserError
from service.cli import main
from training.faults import Lexicon, faults, list_faults

LEXICON = Lexicon(
    [
        ("dog", "Hund"),
        ("garden", "Garten"),
        ("cupboard", "Schrank"),
        ("cupboard", "Küchenschrank"),
        ("harbour", "Hafen"),
        ("weather", "Wetter"),
        ("yesterday", "gestern"),
        ("terrible", "schrecklich"),
        ("to sleep", "schlafen"),
        ("hotel", "Hotel"),
        ("table tennis bat", "Tischtennisschläger"),
    ]
)


def kinds(source: str, hypothesis: str, lexicon: Lexicon | None = LEXICON) -> list[str]:
    return [fault.kind for fault in faults(source, hypothesis, lexicon)]


@pytest.mark.parametrize(
    ("source", "hypothesis", "expected"),
    [
        ("The dog sleeps in the garden.", "Der Hund schläft im Garten.", []),
        ("The hotel is old.", "Das Hotel ist alt.", []),  # the word is German, too
        ("There is a cupboard.", "Da ist ein Cupboard.", ["UNTRANSLATED"]),
        ("I met Mr Cupboard.", "Ich traf Herrn Cupboard.", []),  # a name
        ("Two cupboards.", "Zwei cupboards.", ["UNTRANSLATED"]),  # inflected
        ("It was late, the weather yesterday was terrible.", "Es war spät.", ["DROPPED"]),
        ("It was late, the weather yesterday was terrible.", "Es war spät, und gestern regnete es.", []),
        ("It was late, the weather yesterday was terrible.", "Es war spät, der Himmel war ganz dunkel.", ["DROPPED"]),
        ("I want it because it was dry.", "Ich will es, weil es Durst war, weil es Durst war, weil es Durst war.",
         ["REPETITION"]),
        ("Call 5550123 now.", "Ruf jetzt an.", ["ITEM_CHANGED"]),
        ("See https://example.org/cupboard.", "Siehe https://example.org/cupboard.", []),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(source: str, hypothesis: str, expected: list[str]) -> None:
    assert sorted(set(kinds(source, hypothesis)) - {"SUSPICIOUS_LENGTH"}) == expected


def test_a_reference_tells_the_length() -> None:
    source, reference = "He can swim but not dive.", "Er kann schwimmen, aber nicht tauchen."
    assert [f.kind for f in faults(source, "Er kann schwimmen.", references=["?" * 90, reference])] == ["DROPPED"]
    assert faults(source, "Er kann schwimmen, nicht tauchen.", references=[reference]) == []


def test_a_lexicon_serves_both_directions() -> None:
    english = LEXICON.facing(["There is a cupboard.", "Das ist ein Zitat."])
    assert kinds("There is a cupboard.", "Da ist ein Cupboard.", english) == ["UNTRANSLATED"]
    german = LEXICON.facing(["Der Hund ist im Schrank."])
    assert kinds("Der Hund ist im Schrank.", "The dog is in the Schrank.", german) == ["UNTRANSLATED"]
    assert kinds("Der Hund ist im Schrank.", "The dog is in the cupboard.", german) == []


def test_a_list_for_people_names_the_lines() -> None:
    found = list_faults(
        ["a dog", "a cupboard"], ["ein Hund", "ein cupboard"], [("ein Hund",), ("ein Schrank",)], LEXICON
    )
    assert [(one["line"], one["fault"]) for one in found] == [(2, "UNTRANSLATED cupboard")]


def test_a_lexicon_is_any_corpus_file(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_text("cupboard\tSchrank\nno tab here\n", encoding="utf-8")
    assert kinds("a cupboard", "ein cupboard", Lexicon.load(path, "en", "de")) == ["UNTRANSLATED"]
    path.write_text("two long words\tdrei\n", encoding="utf-8")
    with pytest.raises(UserError, match="no entry of one word"):
        Lexicon.load(path, "en", "de")
    with pytest.raises(UserError, match="no such file"):
        Lexicon.load(tmp_path / "none.tsv", "en", "de")


def test_the_command_lists_faults_of_a_test_set_turned_round(checkpoint_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("the dog\tder Hund\nthe house\tdas Haus\n", encoding="utf-8")
    (tmp_path / "words.tsv").write_text("house\tHaus\n", encoding="utf-8")
    arguments = [
        "evaluate", "--checkpoint", checkpoint_directory, "--test", tmp_path / "test.tsv", "--from", "de", "--to", "en",
        "--turned", "--lexicon", tmp_path / "words.tsv", "--metrics", "bleu", "--output", tmp_path / "scores",
    ]  # fmt: skip
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["source"], report["target"]) == ("de", "en")
    for one in report["systems"][0]["faults"]:  # a model that knows nothing: what is wrong differs from run to run
        assert one["source"] == ["der Hund", "das Haus"][one["line"] - 1] and one["fault"]
    table = CliRunner().invoke(main, list(map(str, arguments))).stdout
    assert f"tiny: {len(report['systems'][0]['faults'])} of 2 sentences have a fault" in table
    refused = CliRunner().invoke(main, [*map(str, arguments), "--formality"])
    assert refused.exit_code == 2 and "leave out --turned and --lexicon" in refused.output
