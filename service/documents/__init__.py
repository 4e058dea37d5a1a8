"""Formats of documents. Each is one file with ``read``: from a binary file to records (see record.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from service.documents.record import Options, Record

__all__ = ["FORMATS", "Format", "Options", "Record", "format_of"]


@dataclass(frozen=True)
class Format:
    """``columns``: whether the caller has to name what to translate."""

    reader: str  # module and function, imported when it is needed
    suffixes: tuple[str, ...]
    columns: bool = False

    def read(self, file: BinaryIO, options: Options) -> Iterator[Record]:
        module, function = self.reader.split(".")
        reader: Callable[[BinaryIO, Options], Iterator[Record]]
        reader = getattr(import_module(f"service.documents.{module}"), function)
        return reader(file, options)


FORMATS = {
    "text": Format("text.read", (".txt", ".text")),
    "csv": Format("table.read_csv", (".csv",), columns=True),
    "tsv": Format("table.read_tsv", (".tsv", ".tab"), columns=True),
    "jsonl": Format("jsonl.read", (".jsonl", ".ndjson"), columns=True),
    "markdown": Format("markdown.read", (".md", ".markdown")),
    "html": Format("html.read", (".html", ".htm", ".xhtml")),
    "subtitles": Format("subtitles.read", (".srt", ".vtt")),
    "po": Format("gettext.read", (".po", ".pot")),
    "docx": Format("docx.read", (".docx",)),
}


def format_of(path: Path) -> str | None:
    """The format that the name of the file says."""
    suffix = path.suffix.lower()
    return next((name for name, format in FORMATS.items() if suffix in format.suffixes), None)
