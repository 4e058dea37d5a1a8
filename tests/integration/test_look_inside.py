"""The commands that look into a model, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from service.cli import main

LINES = "the cat is good\n\nwhere is my  dog? good morning!\n"


def nmt(*arguments: object, text: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=text)


def test_alignments_are_pairs_of_words(checkpoint_directory: Path) -> None:
    base = ("translate", "--from", "en", "--to", "de", "--checkpoint", checkpoint_directory, "--beam", 2)
    plain = nmt(*base, text=LINES).stdout.splitlines()
    lines = nmt(*base, "--alignments", text=LINES).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == plain and lines[1] == "\t"
    for source, line in zip(LINES.splitlines(), lines, strict=True):
        translation, links = line.split("\t")
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert [j for _, j in sorted(pairs, key=lambda pair: pair[1])] == list(range(len(translation.split())))
        assert all(0 <= i < len(source.split()) for i, _ in pairs)
    found = nmt(*base, "--alignments", "--format", "jsonl", text=LINES).stdout.splitlines()
    assert [json.loads(one)["hypotheses"][0]["alignment"] for one in found] == [line.split("\t")[1] for line in lines]


def test_alignments_are_for_plain_text(checkpoint_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<p>the cat</p>")
    result = nmt(
        "translate", "--from", "en", "--to", "de", "--checkpoint", checkpoint_directory, "--alignments",
        tmp_path / "page.html",
    )  # fmt: skip
    assert result.exit_code == 2 and "--alignments" in result.stderr


@pytest.mark.parametrize("suffix", ["png", "html", "json"])
def test_attention_prints_the_translation_and_writes_the_file(
    checkpoint_directory: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"map.{suffix}"
    result = nmt(
        "attention", "the cat is good", "--checkpoint", checkpoint_directory, "-o", path, "--translation", "die Katze"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "die Katze\n" and path.stat().st_size > 2_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat"], "give a sentence and a file"),
        (["a cat", "-o", "map.txt"], "must end in one of .png .html .json"),
        (["a cat. a dog.", "-o", "map.png"], "2 sentences"),
        (["--heads"], "--heads takes --test FILE"),
        (["a cat", "-o", "map.png", "--to", "fr"], "unknown language 'fr'"),
    ],
)
def test_attention_says_what_is_wrong(checkpoint_directory: Path, arguments: list[str], message: str) -> None:
    result = nmt("attention", "--checkpoint", checkpoint_directory, *arguments)
    assert result.exit_code == 2 and message in result.stderr


def test_heads_of_a_test_set(checkpoint_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("the cat is.\tdie Katze ist.\nwhere is my dog?\two ist mein Hund?\n")
    base = ("attention", "--heads", "--checkpoint", checkpoint_directory, "--test", tmp_path / "test.tsv")
    assert "previous word" in nmt(*base).stdout
    report = json.loads(nmt(*base, "--json").stdout)
    assert set(report) == {"roles", "alignment_error", "coreference_chance"}


def test_experts_need_a_mixture(checkpoint_directory: Path, tmp_path: Path) -> None:
    (tmp_path / "test.tsv").write_text("the cat\tdie Katze\n")
    result = nmt("experts", "--checkpoint", checkpoint_directory, "--test", tmp_path / "test.tsv")
    assert result.exit_code == 2 and "no mixture of experts" in result.stderr
