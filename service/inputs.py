"""From the names on the command line to the parts of a job: which files become which."""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import click

from model.config import check, one_of
from service.documents import FORMATS, Options, Record, format_of
from service.errors import ServiceError
from service.outputs import is_regular, partial_of

STDIN = Path("-")
SUFFIXES = " ".join(suffix for format in FORMATS.values() for suffix in format.suffixes)


@dataclass(frozen=True)
class Part:
    """Files that become one file; ``output`` is None for standard output. Only lines of text can be joined."""

    paths: tuple[Path, ...]
    output: Path | None
    format: str
    options: Options

    def records(self) -> Iterator[tuple[Path, Record]]:
        """The records of all files, each with the file that it is from. UserError for a document that cannot be
        parsed, ServiceError for a file that cannot be read."""
        raw = b""
        for path in self.paths:
            for index, record in enumerate(self._read(path)):
                if index == 0 and raw and not raw.endswith(b"\n") and self.options.format != "jsonl":
                    yield path, Record("line 1", b"\n")  # the last line of a file ends before the next file begins
                raw = record.raw
                yield path, record

    def _read(self, path: Path) -> Iterator[Record]:
        try:
            with _open(path) as file:
                yield from FORMATS[self.format].read(file, self.options)
        except OSError as error:
            raise ServiceError(f"cannot read {name_of(path)}: {error.strerror}") from None


def _open(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb")


def name_of(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)


def plan(inputs: Sequence[Path], output: Path | None, format: str | None, options: Options) -> list[Part]:
    """The parts of a job, in order. UserError for what cannot be read or cannot be meant, before any work is done.

    ``format`` is that of all files; None: as the name of each says. Folders and patterns ("docs/**/*.md") become the
    same tree below the folder ``output``.
    """
    if format:
        one_of("--input-format", format, tuple(FORMATS))
    found = [_expand(path, output, format) for path in inputs]
    several = any(is_tree for is_tree, _ in found)
    files = [file for _, some in found for file in some]
    for path, _ in files:
        check(path == STDIN or os.access(path, os.R_OK), f"{path} cannot be read: permission denied")
    if output is None or not (several or output.is_dir()):
        check(not several, f"{inputs[0]} becomes several files: name their folder with -o")
        if output:
            check(not str(output).endswith(os.sep), f"{output}: no such folder; create it first")
            check(output.parent.is_dir(), f"{output.parent}: no such folder; create it first")
        paths = tuple(path for path, _ in files)
        formats = {format or format_of(path) or "text" for path in paths}
        joined = formats == {"text"} or len(paths) == 1
        missing = output and not output.exists()
        folder = f"{output} is no folder yet; create it" if missing else "name a folder with -o"
        check(joined, f"only plain text can be joined, not {', '.join(sorted(formats))}: {folder}")
        for path in paths:
            _check_kept(path, output, output)
        return _checked([Part(paths, output, formats.pop(), options)])
    check(not output.exists() or output.is_dir(), f"-o {output} must be a folder")
    parts = []
    taken: set[Path] = set()
    for path, relative in files:
        check(path != STDIN, f"-o {output} is a folder and standard input has no name; name a file")
        target = output / relative
        check(target not in taken, f"two inputs are named {relative}: only one can be written to {output}")
        _check_kept(path, target, output)
        taken.add(target)
        parts.append(Part((path,), target, format or format_of(path) or "text", options))
    return _checked(parts)


def _check_kept(path: Path, target: Path | None, output: Path | None) -> None:
    same = target and path != STDIN and target.exists() and path.samefile(target)
    check(not (same and is_regular(path)), f"-o {output} would replace the input {path}")


def _is_record(path: Path) -> bool:
    """Whether it is a manifest or a list of a job, which lie in its output folder or beside its output."""
    for name in ("manifest.jsonl", "errors.jsonl", "warnings.jsonl"):
        output = path.with_name(path.name.removesuffix(f".{name}"))
        if path.name == f"nmt-{name}" or (output != path and (output.exists() or partial_of(output).exists())):
            return True
    return False


def _expand(path: Path, output: Path | None, format: str | None) -> tuple[bool, list[tuple[Path, Path]]]:
    """Whether the name stands for a tree of files, and each file with its place in it."""
    if path == STDIN:
        return False, [(path, path)]
    if path.is_dir():
        root, names = path, sorted(path.rglob("*"))
    elif path.exists() or not glob.has_magic(str(path)):
        check(path.exists(), f"{path}: no such file")
        return False, [(path, Path(path.name))]
    else:
        fixed = [part for part in path.parts[:-1]]
        depth = next((i for i, part in enumerate(fixed) if glob.has_magic(part)), len(fixed))
        root, names = Path(*fixed[:depth]), sorted(map(Path, glob.glob(str(path), recursive=True)))
    inside = output.resolve() if output else None
    names = [
        name
        for name in names
        if not name.is_dir()
        and not _is_record(name)
        and not any(part.startswith(".") for part in name.relative_to(root).parts)
        and not (inside and root.resolve() != inside and name.resolve().is_relative_to(inside))
    ]
    files = [name for name in names if name.is_file() and (format or format_of(name) or not path.is_dir())]
    check(bool(files), f"{path}: no file there that could be translated ({SUFFIXES}; or say --input-format)")
    taken = set(files)
    if left := [str(name.relative_to(root)) for name in names if name not in taken]:
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        click.echo(f"not translated, no file of a known format: {', '.join(left[:3])}{more}", err=True)
    return True, [(name, name.relative_to(root)) for name in files]


def _checked(parts: list[Part]) -> list[Part]:
    for part in parts:
        columns, options = FORMATS[part.format].columns, part.options
        name = name_of(part.paths[0])
        lines = part.format == "text"
        check(
            lines or (options.format, options.scores, options.alignments, options.nbest) == ("text", False, False, 1),
            f"{name} keeps its format: --format, --scores, --alignments and --nbest are for plain text",
        )
        check(bool(options.columns) or not columns, f"{name}: which columns? Name them with --columns NAME,NAME")
    wanted = any(FORMATS[part.format].columns for part in parts)
    check(wanted or not parts[0].options.columns, "--columns is for CSV, TSV and JSONL; none is among the inputs")
    return parts


def count_texts(parts: Sequence[Part]) -> int | None:
    """How many texts there are to translate; None where that cannot be known before they are read."""
    total = 0
    for part in parts:
        if any(path == STDIN or not stat.S_ISREG(path.stat().st_mode) for path in part.paths):
            return None
        if part.format == "text":
            total += sum(map(_count_lines, part.paths))
        else:
            with contextlib.suppress(Exception):  # it is reported when its turn comes
                total += sum(len(record.texts) for _, record in part.records())
    return total


def _count_lines(path: Path) -> int:
    total, last = 0, b"\n"
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total, last = total + block.count(b"\n"), block[-1:]
    return total + (last != b"\n")
