from __future__ import annotations

import errno
import io
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service.lines import Line, Output, read_all, read_lines, windows

from model.errors import UserError
from service.errors import ServiceError

ANY_TEXT = st.text("\n\r\t\0 \u2028\x85\x0b\x0c\ufeffaä😀", max_size=30)


def test_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes("\ufeffa \r\n\n\r\n\tb\rc\u2028d\x85e\x0cf\0\nlast\r".encode())
    assert list(read_lines(path)) == [
        Line("a ", "\r\n", "\ufeff"),
        Line("", "\n"),
        Line("", "\r\n"),
        Line("\tb\rc\u2028d\x85e\x0cf\0", "\n"),
        Line("last\r", ""),
    ]


@given(text=ANY_TEXT)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lines_are_what_was_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(text.encode())
    lines = list(read_lines(path))
    assert "".join(line.mark + line.text + line.end for line in lines) == text
    assert len(lines) == text.count("\n") + (not text.endswith("\n") and text != "")


def test_files_are_joined_at_a_line_end(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abcd"]
    for path, content in zip(paths, (b"1\n2", b"", b"3", b"4"), strict=True):
        path.write_bytes(content)
    assert list(read_all(paths)) == [Line("1", "\n"), Line("2", "\n"), Line("3", "\n"), Line("4", "")]


def test_what_is_not_utf8_names_file_and_line_and_loses_nothing(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_bytes(b"1\n2")
    bad.write_bytes(b"3\n4\nca\xe9\n5\n")
    seen: list[Line] = []
    with pytest.raises(UserError, match=r"bad.txt, line 3: byte 3 \(0xe9\) is not valid UTF-8.*iconv"):
        for window in windows(read_all([good, bad]), size=3, characters=100):
            seen += window
    assert [line.text for line in seen] == ["1", "2", "3", "4"]
    bad.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"bad\.txt, line 1"):
        list(read_all([good, bad]))


def test_windows() -> None:
    lines = [Line(text, "\n") for text in ("a", "b", "c", "x" * 10, "d")]
    sizes = [[line.text for line in window] for window in windows(lines, size=2, characters=9)]
    assert sizes == [["a", "b"], ["c", "x" * 10], ["d"]]


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    path.chmod(0o640)
    with Output(path) as out:
        out.write("new\n")
        assert path.read_text() == "old"
        assert (tmp_path / "out.txt.partial").read_text() == "new\n"
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    with Output(link) as out:
        out.write("new")
    assert link.is_symlink()
    assert target.read_text() == "new"


@pytest.mark.parametrize("kind", [UserError, ServiceError])
def test_after_a_failure_the_partial_file_stays(tmp_path: Path, kind: type[Exception]) -> None:
    path = tmp_path / "out.txt"
    with pytest.raises(kind, match=r"^bad; what was done is kept in .*out.txt.partial$"), Output(path) as out:
        out.write("done\n")
        raise kind("bad")
    assert not path.exists()
    assert (tmp_path / "out.txt.partial").read_text() == "done\n"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    full = pytest.raises(ServiceError, match=r"cannot write .*: No space left on device; what was done")
    with full, Output(tmp_path / "out.txt") as out:
        out._file.close()
        out._file = Full()
        out.write("a")


def test_devices_are_written_in_place() -> None:
    with Output(Path("/dev/null")) as out:
        out.write("a")
    assert not Path("/dev/null").is_file()
    full = pytest.raises(ServiceError, match="cannot write /dev/full: No space left on device")
    with full, Output(Path("/dev/full")) as out:
        out.write("a")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ServiceError, match=r"cannot write .*: No such file or directory"),
        Output(tmp_path / "no" / "a"),
    ):
        pass
