from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fake_translator import FakeTranslator, Hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import service.translate
from model.config import SearchConfig
from model.errors import UserError
from model.guards import QualityWarning
from protos.translation.v1 import translation_pb2 as pb
from service.documents import Options
from service.documents.text import format_line
from service.inputs import STDIN, count_texts, plan
from service.translate import Found, How, Job, Worker, run


def translate(path: Path, **options: Any) -> bytes:
    """The bytes that the file becomes."""
    out = path.with_name("out")
    job([path], out, **options)
    return out.read_bytes()


def job(
    paths: list[Path], out: Path | None, target: str = "de", input_format: str | None = "text", **options: Any
) -> None:
    how = How("en", target, SearchConfig(nbest=options.get("nbest", 1)))
    run(
        Job(tuple(plan(paths, out, input_format, Options("en", **options))), out, how), FakeTranslator(), lambda: "fake"
    )


@given(text=st.text(st.sampled_from("\n\r\t\0 A'1\u2028\ufeff"), max_size=30), window=st.integers(1, 4))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_words_change(tmp_path: Path, text: str, window: int) -> None:
    """Upper-casing changes nothing in this alphabet: the same bytes come out, whatever the window."""
    (tmp_path / "in").write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service.translate, "WINDOW_TEXTS", window)
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
        "warnings": [],
    }


def test_a_line_end_that_the_model_writes_adds_no_line() -> None:
    found = Found((Hypothesis("a\nb", -0.0),))
    assert format_line("x", "\n", found, "text", scores=True) == "a b\t0.0000\n"
    assert format_line("x", "\n", found, "jsonl", scores=False).count("\n") == 1


def test_a_folder_takes_a_file_each(tmp_path: Path) -> None:
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    out.mkdir()
    paths = [inputs / "a.txt", inputs / "b.txt"]
    for path in paths:
        path.write_text(path.stem)
    job(paths, out)
    assert {path.name: path.read_text() for path in out.glob("?.txt")} == {"a.txt": "A", "b.txt": "B"}


def test_a_file_whose_name_is_not_unicode(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9.txt")
    odd.write_bytes(b"ok\n\xff bad\nfine\n")
    with pytest.raises(UserError, match="1 record could not be translated"):
        job([odd], tmp_path / "out.txt")
    assert (tmp_path / "out.txt").read_bytes() == b"OK\n\nFINE\n"
    (error,) = (tmp_path / "out.txt.errors.jsonl").read_text().splitlines()
    assert json.loads(error)["input"] == str(odd)


def test_what_is_doubtful_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "in.txt", tmp_path / "out.txt"
    path.write_text("fine\nin doubt\n")
    job([path], out)
    listed = tmp_path / "out.txt.warnings.jsonl"
    assert capsys.readouterr().err == f"1 translation is doubtful, see {listed}\n"
    warning = {"code": "REPETITION", "detail": "doubt"}
    assert [json.loads(line) for line in listed.read_text().splitlines()] == [
        {"input": str(path), "place": "line 2", "warnings": [warning], "source": "in doubt", "translation": "IN DOUBT"}
    ]
    job([path], None, format="jsonl")
    text, err = capsys.readouterr()
    assert [json.loads(line)["warnings"] for line in text.splitlines()] == [[], [warning]]
    assert err == "1 translation is doubtful; -o FILE lists them\n"
    path.write_text("fine\n")
    job([path], out)
    assert not listed.exists() and capsys.readouterr().err == ""


def test_warnings_of_a_server_are_those_of_the_library(tmp_path: Path) -> None:
    class Remote(FakeTranslator):
        def translate(self, *args: Any, **more: Any) -> Any:
            return [
                pb.Translation(
                    hypotheses=[pb.Hypothesis(text=one.text)],
                    warnings=[
                        pb.TranslationWarning(code=warning.code, detail=warning.detail) for warning in one.warnings
                    ],
                )
                for one in super().translate(*args, **more)
            ]

    for translator in (FakeTranslator(), Remote()):
        (found,) = Worker(translator, How("en", "de", SearchConfig()))([["fine", "in doubt"]])
        assert [one.warnings for one in found] == [(), (QualityWarning("REPETITION", "doubt"),)]


def test_utf_16_is_named(tmp_path: Path) -> None:
    """Line by line, half of such a file would pass for UTF-8."""
    path = tmp_path / "in.txt"
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes("\ufeffone\ntwo\n".encode(encoding))
        with pytest.raises(UserError, match=r"[23] records .*line 1: the file is in UTF-16; convert it first"):
            job([path], tmp_path / "out.txt")
        assert not (tmp_path / "out.txt").read_bytes().strip()
        with pytest.raises(UserError, match=r"1 record .*the file is in UTF-16"):
            job([path], tmp_path / "out.txt", input_format="markdown")


def test_an_unknown_language_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"\xff")
    with pytest.raises(UserError, match="unknown language 'xx'"):
        job([tmp_path / "in"], None, target="xx")


def test_paths_that_cannot_be_meant(tmp_path: Path) -> None:
    one, two, folder = tmp_path / "a.txt", tmp_path / "b" / "a.txt", tmp_path / "out"
    two.parent.mkdir()
    folder.mkdir()
    one.touch()
    two.touch()
    link = tmp_path / "link.txt"
    link.symlink_to(one)
    for paths, output, message in [
        ([tmp_path / "none"], None, "none: no such file"),
        ([folder], None, "out: no file there that could be translated"),
        ([two.parent], None, "becomes several files: name their folder with -o"),
        ([one], tmp_path / "no" / "x", "no: no such folder"),
        ([STDIN], folder, "standard input has no name"),
        ([one, two], folder, "two inputs are named a.txt"),
        ([one], tmp_path, "would replace the input"),
        ([one], one, "would replace the input"),
        ([two, one], link, "would replace the input"),
    ]:
        with pytest.raises(UserError, match=message):
            plan(paths, output, None, Options("en"))
    assert len(plan([one, STDIN], None, None, Options("en"))) == 1
    assert len(plan([one], folder, None, Options("en"))) == 1


def test_formats_that_cannot_be_meant(tmp_path: Path) -> None:
    for name in ("a.csv", "a.md", "b.md"):
        (tmp_path / name).touch()
    csv, one, two = tmp_path / "a.csv", tmp_path / "a.md", tmp_path / "b.md"
    for paths, options, message in [
        ([csv], {}, "a.csv: which columns"),
        ([one], {"columns": ("a",)}, "none is among the inputs"),
        ([one], {"nbest": 2}, "--nbest are for plain text"),
        ([one, two], {}, "only plain text can be joined, not markdown: .*out is no folder yet; create it"),
    ]:
        with pytest.raises(UserError, match=message):
            plan(paths, tmp_path / "out", None, Options("en", **options))
    with pytest.raises(UserError, match="--input-format = 'pdf' is not one of text, csv"):
        plan([one], None, "pdf", Options("en"))


def test_folders_and_patterns_become_the_same_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = ("docs/nmt-manifest.jsonl", "docs/x/nmt-errors.jsonl", "docs/a.md.manifest.jsonl", "docs/a.md.errors.jsonl")
    for name in ("docs/a.md", "docs/x/b.html", "docs/x/c.png", "docs/.git/d.txt", "docs/de/e.txt", *ours):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    docs, out = tmp_path / "docs", tmp_path / "docs" / "de"
    parts = plan([docs], out, None, Options("en"))
    assert [(part.output, part.format) for part in parts] == [
        (out / "a.md", "markdown"),
        (out / "x" / "b.html", "html"),
    ]
    parts = plan([docs / "**" / "*.md"], tmp_path / "new", None, Options("en"))
    assert [part.output for part in parts] == [tmp_path / "new" / "a.md"]
    assert capsys.readouterr().err == "not translated, no file of a known format: x/c.png\n"
    (docs / "my.errors.jsonl").touch()  # of no job
    parts = plan([docs], out, None, Options("en", ("text",)))
    assert [part.paths[0].name for part in parts] == ["a.md", "my.errors.jsonl", "b.html"]


def test_files_are_joined_at_a_line_end(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path, content in zip(paths, (b"1\n2", b"", b"3", b"4"), strict=True):
        path.write_bytes(content)
    job(paths, tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"1\n2\n3\n4"
    assert count_texts(plan(paths, None, None, Options("en"))) == 4
    assert count_texts(plan([STDIN], None, None, Options("en"))) is None
