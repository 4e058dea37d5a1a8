"""What a script says of what its user can put right: one line, an exit code, no traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from training import lexicon, nouns, synthetic
from training.script import run


@pytest.mark.parametrize("module", [lexicon, nouns, synthetic])
def test_a_missing_file_is_named(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "german_nouns", None)  # absent, whether it is here or not
    missing, out = tmp_path / "missing.tsv", tmp_path / "out.tsv"
    monkeypatch.setattr(sys, "argv", ["script", str(missing), str(missing), "-o", str(out)])
    with pytest.raises(SystemExit) as end:
        run(module.main)  # type: ignore[attr-defined]
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert ("needs german_nouns" if module is nouns else str(missing)) in said
    assert said.count("\n") == 1 and not out.exists()


def test_a_folder_that_takes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda: lexicon.write_pairs(tmp_path, [("a", "b")]))
    assert end.value.code == 1
    assert capsys.readouterr().err == f"{tmp_path}: Is a directory\n"


def test_what_was_found_before_a_stop_is_kept(tmp_path: Path) -> None:
    def some() -> Iterator[tuple[str, str]]:
        yield "a", "b"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lexicon.write_pairs(tmp_path / "out.tsv", some())
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv.partial"]
    assert (tmp_path / "out.tsv.partial").read_text() == "a\tb\n"
    assert lexicon.write_pairs(tmp_path / "out.tsv", [("a", "b"), ("c", "d")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]
    (tmp_path / "link.tsv").symlink_to(tmp_path / "out.tsv")
    lexicon.write_pairs(tmp_path / "link.tsv", [("e", "f")])
    assert (tmp_path / "link.tsv").is_symlink() and (tmp_path / "out.tsv").read_text() == "e\tf\n"


def test_what_ends_well_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    run(lambda: None)
    assert capsys.readouterr().err == ""
