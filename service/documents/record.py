"""What every format is made of: records, and markup inside a sentence that stays around the right words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from model.config import check
from model.errors import UserError
from service.documents.inline import Unit

DOCUMENT_BYTES = 16 << 20  # a document is parsed as a whole; tables and lines flow, at any size
BYTE_ORDER_MARK = "\ufeff"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # what such a file begins with
IN_UTF_16 = "the file is in UTF-16; convert it first, for example with iconv -f utf-16 -t utf-8"


@dataclass(frozen=True)
class Record:
    """A piece of the input; the pieces of a file, written one after the other, are the output.

    ``texts`` are to be translated; ``render`` makes the output of their translations (objects with ``hypotheses``).
    Where that is None, ``raw`` is copied. A ``reason`` says why a record is bad: it goes to the error file, and
    ``instead`` to the output, as it does where the translation fails.
    """

    place: str  # "line 7": where a person finds it
    raw: bytes
    texts: tuple[str, ...] = ()
    render: Callable[[Sequence[Any]], bytes] | None = None
    instead: bytes = b""
    reason: str = ""


@dataclass(frozen=True)
class Options:
    """What the readers need to know of the job."""

    source: str  # language of the input
    columns: tuple[str, ...] = ()  # tables and JSONL: what to translate
    format: str = "text"  # lines: what the output holds, see service.documents.text
    scores: bool = False
    alignments: bool = False
    nbest: int = 1


def read_whole(file: BinaryIO) -> bytes:
    data = file.read(DOCUMENT_BYTES + 1)
    check(len(data) <= DOCUMENT_BYTES, f"longer than {DOCUMENT_BYTES >> 20} MiB, the limit of a document; split it")
    return data


def decode(data: bytes) -> str:
    """UserError that names the line of the first byte that is not UTF-8."""
    check(not data.startswith(UTF_16), IN_UTF_16)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1)
        raise UserError(f"line {line}: {not_utf8(data[error.start], column)}") from None


def not_utf8(byte: int, index: int) -> str:
    return (
        f"byte {index + 1} (0x{byte:02x}) is not valid UTF-8; "
        "convert the file first, for example with iconv -f latin1 -t utf-8"
    )


def encodable(text: str) -> bool:
    """Not where it holds half a surrogate pair, as an escape of JSON may leave it."""
    return not re.search("[\ud800-\udfff]", text)


def document(file: BinaryIO, parse: Callable[[str], Iterable[str | Unit]]) -> Iterator[Record]:
    """The records of a document that ``parse`` cuts into what is copied (str) and what is translated (Unit)."""
    text = decode(read_whole(file))
    if text.startswith(BYTE_ORDER_MARK):
        yield Record("line 1", BYTE_ORDER_MARK.encode())
    line = 1
    for piece in parse(text.removeprefix(BYTE_ORDER_MARK)):
        raw = piece if isinstance(piece, str) else piece.raw
        if isinstance(piece, str):
            yield Record(f"line {line}", raw.encode())
        else:
            yield Record(f"line {line}", raw.encode(), piece.texts, _renderer(piece), raw.encode())
        line += raw.count("\n")


def _renderer(unit: Unit) -> Callable[[Sequence[Any]], bytes]:
    return lambda found: unit.render([translation.hypotheses[0].text for translation in found]).encode()
