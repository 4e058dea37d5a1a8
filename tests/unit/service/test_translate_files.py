from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_translator import FakeTranslator, Hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.lines import STDIN, Line

import service.translate
from model.config import SearchConfig
from model.errors import UserError
from service.translate import FileTranslation, check_paths, count_lines, format_line


def translate(path: Path, **options: Any) -> bytes:
    """The bytes that the file becomes."""
    out = path.with_name("out")
    nbest = options.pop("nbest", 1)
    FileTranslation(FakeTranslator(), "en", "de", SearchConfig(nbest=nbest), **options).run([path], out)
    return out.read_bytes()


@given(text=st.text(st.sampled_from("\n\r\t\0 A'1\u2028\ufeff"), max_size=30), window=st.integers(1, 4))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_words_change(tmp_path: Path, text: str, window: int) -> None:
    """Upper-casing changes nothing in this alphabet: the same bytes come out, whatever the window."""
    (tmp_path / "in").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.translate, "WINDOW_LINES", window)
        assert translate(tmp_path / "in") == text.encode()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, b"A\tB\r\n\r\nC"),
        ({"scores": True}, b"A B\t-0.2500\r\n\t-0.2500\r\nC\t-0.2500"),
        ({"nbest": 2}, b"A B\tA B'\r\n\t'\r\nC\tC'"),
        ({"format": "tsv"}, b"a b\tA B\r\n\t\r\nc\tC"),
        ({"format": "tsv", "nbest": 2, "scores": True}, b"a b\tA B\t-0.2500\tA B'\t-0.5000\r\n"),
    ],
)
def test_columns(tmp_path: Path, options: dict[str, Any], expected: bytes) -> None:
    (tmp_path / "in").write_bytes(b"a\tb\r\n\r\nc")
    assert translate(tmp_path / "in", **options).startswith(expected)


def test_jsonl(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes("\ufeffa\tö\u2028\r\n\nc".encode())
    lines = translate(tmp_path / "in", format="jsonl", nbest=2).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["source"] for line in lines] == ["a\tö\u2028", "", "c"]
    assert json.loads(lines[0]) == {
        "source": "a\tö\u2028",
        "translation": "A\tÖ\u2028",
        "score": -0.25,
        "hypotheses": [{"text": "A\tÖ\u2028", "score": -0.25}, {"text": "A\tÖ\u2028'", "score": -0.5}],
    }


def test_a_line_end_that_the_model_writes_adds_no_line() -> None:
    hypotheses = [Hypothesis("a\nb", -0.0)]
    assert format_line(Line("x", "\n"), hypotheses, "text", scores=True) == "a b\t0.0000\n"
    assert format_line(Line("x", "\n"), hypotheses, "jsonl", scores=False).count("\n") == 1


def test_a_folder_takes_a_file_each(tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    out.mkdir()
    paths = [inputs / "a.txt", inputs / "b.txt"]
    for path in paths:
        path.write_text(path.stem)
    FileTranslation(FakeTranslator(), "en", "de", SearchConfig()).run(paths, out)
    assert {path.name: path.read_text() for path in out.iterdir()} == {"a.txt": "A", "b.txt": "B"}


def test_an_unknown_language_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\xff")
    with pytest.raises(UserError, match="unknown language 'xx'"):
        FileTranslation(FakeTranslator(), "en", "xx", SearchConfig()).run([tmp_path / "in"], None)


def test_paths_that_cannot_be_meant(tmp_path: Path) -> None:
    one, two, folder = tmp_path / "a.txt", tmp_path / "b" / "a.txt", tmp_path / "out"
    two.parent.mkdir()
    folder.mkdir()
    one.touch()
    two.touch()
    for paths, output, message in [
        ([tmp_path / "none"], None, "none: no such file"),
        ([folder], None, "out is a folder"),
        ([one], tmp_path / "no" / "x", "no: no such folder"),
        ([STDIN], folder, "standard input has no name"),
        ([one, two], folder, "two inputs are named a.txt"),
        ([one], tmp_path, "would replace the input"),
    ]:
        with pytest.raises(UserError, match=message):
            check_paths(paths, output)
    check_paths([one, STDIN], None)
    check_paths([one], folder)
    check_paths([one], one)


def test_count_lines(tmp_path: Path) -> None:
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_bytes(b"1\n2")
    two.write_bytes(b"3\n")
    assert count_lines([one, two]) == 3
    assert count_lines([one, STDIN]) is None
