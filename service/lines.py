"""Lines in, lines out: what `nmt translate` reads and writes, byte for byte where nothing is translated."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import click

from model.errors import UserError
from service.errors import ServiceError

BYTE_ORDER_MARK = "\ufeff"
STDIN = Path("-")


@dataclass(frozen=True)
class Line:
    """``mark + text + end`` is what was read."""

    text: str
    end: str  # "\n", "\r\n", or "" where the input ends without one
    mark: str = ""  # a byte order mark, in the first line of a file


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a UTF-8 file or of standard input, one by one.

    Only ``\\n`` and ``\\r\\n`` end a line. Raises UserError that names file and line for what is not UTF-8, and for
    a file that cannot be read.
    """
    name = "standard input" if path == STDIN else str(path)
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{name}, line {number}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not valid UTF-8; "
                        "convert the file first, for example with iconv -f latin1 -t utf-8"
                    ) from None
                end = "\r\n" if text.endswith("\r\n") else "\n" if text.endswith("\n") else ""
                mark = BYTE_ORDER_MARK if number == 1 and text.startswith(BYTE_ORDER_MARK) else ""
                yield Line(text[len(mark) : len(text) - len(end)], end, mark)
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from None


def read_all(paths: Iterable[Path]) -> Iterator[Line]:
    """The lines of several files; the last line of a file is ended before the next file begins."""
    unended: Line | None = None  # only the last line of a file can be
    try:
        for path in paths:
            for line in read_lines(path):
                if unended:
                    yield Line(unended.text, "\n", unended.mark)
                unended = None if line.end else line
                if line.end:
                    yield line
    except UserError:
        if unended:
            yield unended
        raise
    if unended:
        yield unended


def windows(lines: Iterable[Line], size: int, characters: int) -> Iterator[list[Line]]:
    """Lists of ``size`` lines, fewer where they hold many characters. Where reading fails, the lines before the
    failure come first."""
    window: list[Line] = []
    waiting = 0
    try:
        for line in lines:
            window.append(line)
            waiting += len(line.text)
            if len(window) == size or waiting >= characters:
                yield window
                window, waiting = [], 0
    except UserError:
        if window:
            yield window
        raise
    if window:
        yield window


class Output:
    """Where the translations go: standard output, a device or pipe, or a file that appears when it is complete.

    A file is written as ``NAME.partial`` beside its place. If the work fails, that stays, and the error says so.
    """

    def __init__(self, path: Path | None) -> None:
        self.name = "standard output" if path is None else str(path)
        self._path = path.resolve() if path else None  # through a link: it is its target that is replaced
        self._partial: Path | None = None
        self._file: BinaryIO

    def __enter__(self) -> Output:
        if self._path is None:
            self._file = sys.stdout.buffer
            return self
        with self._errors_named():
            if self._path.exists() and not stat.S_ISREG(self._path.stat().st_mode):
                self._file = self._path.open("wb")  # /dev/null is not to be replaced
            else:
                self._partial = self._path.with_name(self._path.name + ".partial")
                self._file = self._partial.open("wb")
                if self._path.exists():
                    shutil.copymode(self._path, self._partial)
        return self

    def write(self, text: str) -> None:
        """Write and flush: whoever reads along, or comes after a crash, finds every line that is done."""
        with self._errors_named():
            self._file.write(text.encode())
            self._file.flush()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._path is None:
            return
        if error is None:
            with self._errors_named():
                if self._partial:
                    os.fsync(self._file.fileno())
                self._file.close()
                if self._partial:
                    self._partial.replace(self._path)
            return
        with contextlib.suppress(OSError):  # the disk may still be full
            self._file.close()
        if self._partial:
            kept = f"what was done is kept in {self._partial}"
            if isinstance(error, (UserError, ServiceError)):
                raise type(error)(f"{error}; {kept}") from None
            click.echo(kept, err=True)

    @contextlib.contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if self._path is None:
                discard_stdout()
                if isinstance(error, BrokenPipeError):
                    raise
            raise ServiceError(f"cannot write {self.name}: {error.strerror}") from None


def discard_stdout() -> None:
    """Send what is left in the buffer of standard output nowhere, or Python would complain about it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
