from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

import pytest

from model.errors import UserError
from service.errors import ServiceError
from service.outputs import Output


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    path.chmod(0o640)
    out = Output(path)
    out.write(b"new\n")
    out.flush()
    assert path.read_text() == "old"
    assert (tmp_path / "out.txt.partial").read_text() == "new\n"
    out.complete()
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    out = Output(link)
    out.write(b"new")
    out.complete()
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_it_goes_on_where_it_was_left(tmp_path: Path) -> None:
    partial = tmp_path / "out.txt.partial"
    partial.write_bytes(b"done, torn")
    out = Output(tmp_path / "out.txt", size=5)
    out.write(b" more")
    out.complete()
    assert (tmp_path / "out.txt").read_bytes() == b"done, more"
    partial.write_bytes(b"do")
    with pytest.raises(UserError, match="is not as it was left"):
        Output(tmp_path / "out.txt", size=5)


def test_dropped_it_leaves_nothing(tmp_path: Path) -> None:
    out = Output(tmp_path / "out.txt")
    out.write(b"x")
    out.drop()
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    out = Output(tmp_path / "out.txt")
    out.close()
    out._file = Full()
    out.write(b"a")
    with pytest.raises(ServiceError, match=r"cannot write .*: No space left on device"):
        out.flush()


def test_devices_are_written_in_place() -> None:
    out = Output(Path("/dev/null"))
    out.write(b"a")
    out.complete()
    assert not Path("/dev/null").is_file()
    out = Output(Path("/dev/full"))
    out.write(b"a")
    with pytest.raises(ServiceError, match="cannot write /dev/full: No space left on device"):
        out.complete()


def test_a_pipe_of_the_shell() -> None:
    """/dev/stdout and >(gzip) are links to a pipe, which has no path."""
    reading, writing = os.pipe()
    out = Output(Path(f"/dev/fd/{writing}"))
    out.write(b"a\n")
    out.complete()
    os.close(writing)
    with open(reading, "rb") as file:
        assert file.read() == b"a\n"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ServiceError, match="cannot write"):
        Output(tmp_path / "file" / "a")
