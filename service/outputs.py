"""What `nmt translate` writes: standard output, a device, or a file that appears when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from model.config import check
from service.errors import ServiceError


def partial_of(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


class Output:
    """Where translations go: standard output, a device or pipe, or a file that appears when it is complete.

    A file is written as ``NAME.partial`` beside its place: ``complete`` renames it, ``drop`` deletes it, ``close``
    lets it be. ServiceError where it cannot be written.
    """

    def __init__(self, path: Path | None, size: int = 0, atomic: bool = True) -> None:
        """``size``: bytes of the (partial) file of an earlier run that stay. ``atomic``: by way of a partial file."""
        self.name = "standard output" if path is None else str(path)
        self.size = self._synced = size
        self.partial: Path | None = None
        # through a link: it is its target that is replaced; what /dev/stdout and /dev/fd/63 link to has no path
        self._path = path.resolve() if path and is_regular(path) else path
        self._file: BinaryIO
        with self._errors_named():
            if self._path is None:
                self._file = sys.stdout.buffer
            elif not is_regular(self._path):
                self._file = self._path.open("wb")  # /dev/null is not to be replaced
            else:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self.partial = partial_of(self._path) if atomic else None
                path = self.partial or self._path
                check(
                    not size or (path.exists() and path.stat().st_size >= size),
                    f"{path} is not as it was left: something is missing; delete the manifest to start again",
                )
                self._file = path.open("r+b" if size else "wb")
                self._file.seek(size)
                self._file.truncate()
                if self.partial and self._path.exists():
                    shutil.copymode(self._path, self.partial)

    def write(self, data: bytes) -> None:
        with self._errors_named():
            self._file.write(data)
        self.size += len(data)

    def flush(self, sync: bool = False) -> None:
        """Whoever reads along, or comes after a crash, finds all that is done; with ``sync``, after a power cut."""
        with self._errors_named():
            self._file.flush()
            if sync and self.size != self._synced and self._path and is_regular(self._path):
                os.fsync(self._file.fileno())
                self._synced = self.size

    def complete(self) -> None:
        self.flush(sync=True)
        if self._path is not None:
            with self._errors_named():
                self._file.close()
                if self.partial:
                    self.partial.replace(self._path)

    def drop(self) -> None:
        self.close()
        if self.partial:
            self.partial.unlink(missing_ok=True)

    def close(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):  # the disk may still be full
                self._file.close()

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


def is_regular(path: Path) -> bool:
    """A file, or none yet: not a device or a pipe."""
    return not path.exists() or stat.S_ISREG(path.stat().st_mode)


def discard_stdout() -> None:
    """Send what is left in the buffer of standard output nowhere, or Python would complain about it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)
