"""The manifest of a job: what it is, and how far it is. Written as JSON lines, so that a kill can only tear the last.

The first line is the identity of the job: model, settings, inputs with size and time of change. Each line after it is
a State that the files on the disk had reached; the last one counts. Whoever goes on must be the same job.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import check
from model.errors import UserError
from service.errors import ServiceError
from service.inputs import Part

VERSION = 1


@dataclass(frozen=True)
class State:
    """``part`` is the place of the part under work; of it, ``records`` were read and ``written`` bytes are in its
    partial file. ``complete``: all of it, only the rename may be missing."""

    part: int = 0
    records: int = 0
    written: int = 0
    complete: bool = False
    texts: int = 0  # translated, in all parts
    errors: int = 0  # bytes in the error file
    bad: int = 0  # records in the error file
    warnings: int = 0  # bytes in the file of warnings
    doubtful: int = 0  # translations with a warning
    dropped: int = 0  # parts that could not be read and have no output
    first_error: str = ""
    done: bool = False


def identity(model: str, settings: Mapping[str, Any], parts: Sequence[Part]) -> dict[str, Any]:
    """What must be equal for a job to be the same."""
    inputs: list[list[Any]] = []
    for part in parts:
        for path in part.paths:
            status = path.stat()
            inputs.append([str(path), part.format, status.st_size, status.st_mtime_ns])
    outputs = [str(part.output) for part in parts]
    return {"version": VERSION, "model": model, **settings, "inputs": inputs, "outputs": outputs}


class Journal:
    """The file, locked while the job runs. Where the path is None, nothing is kept."""

    def __init__(self, path: Path | None, job: Mapping[str, Any], resume: bool) -> None:
        self.state = State()
        self.path = path
        self._file = None
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{path} is in use: another nmt is at work on this job") from None
        except OSError as error:
            raise ServiceError(f"cannot write {path}: {error.strerror}") from None
        self._file.seek(0)
        before, self.state, size = read_journal(path, self._file.read())
        if before and resume:
            check_same(path, before, job)
            self._file.truncate(size)
            return
        check(
            not before or self.state.done or not (self.state.texts or self.state.part),
            f"{path} says that this job is unfinished: go on with --resume, or delete it to start again",
        )
        self.state = State()
        self._file.truncate(0)
        self._append(job)

    def commit(self, **changes: Any) -> None:
        """Call after what the state says has reached the disk."""
        self.state = dataclasses.replace(self.state, **changes)
        self._append(dataclasses.asdict(self.state))

    def _append(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise ServiceError(f"cannot write {self.path}: {error.strerror}") from None

    def close(self) -> None:
        if self._file:
            self._file.close()


def read_journal(path: Path, content: bytes) -> tuple[dict[str, Any] | None, State, int]:
    """Identity (None: there is none yet), last state, and how many bytes are whole lines."""
    size = content.rfind(b"\n") + 1
    lines = content[:size].splitlines()
    if not lines:
        return None, State(), 0
    try:
        return json.loads(lines[0]), State(**json.loads(lines[-1])) if len(lines) > 1 else State(), size
    except (ValueError, TypeError):
        raise UserError(f"{path} is damaged; delete it to start again") from None


def check_same(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """UserError that names the first difference."""
    now = json.loads(json.dumps(now))
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if key == "inputs":
            changed = next(
                (a[0] for a in [*(new or []), *(old or [])] if a not in (old or []) or a not in (new or [])), ""
            )
            difference = f"the input {changed} is new, gone or changed"
        else:
            difference = f"{key} was {json.dumps(old)[:200]} and is {json.dumps(new)[:200]}"
        raise UserError(f"{path}: not the same job, {difference}; run it as before, or delete that file to start again")
