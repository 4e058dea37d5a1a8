"""CSV (RFC 4180) and TSV: the cells of the named columns change, no other byte does.

CSV: cells may be quoted and hold line breaks; the delimiter is the comma, semicolon or bar that the first line has
most of. TSV: one line a row, a tab between cells, no quoting. Columns are named as in the first row, or by numbers
from 1 where there is no such row. A row that is malformed, or has another number of cells than the first, goes to the
error file and not to the output.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, BinaryIO

from model.config import check
from model.errors import UserError
from service.documents.record import BYTE_ORDER_MARK, Options, Record
from service.documents.text import read_raw

ROW_LINES = 1_000  # a quoted cell that does not end within as many lines was not meant
_QUOTED = re.compile(r'"[^"]*+(?:""[^"]*+)*+"')
_END = re.compile(r"\r?\n\Z")

Raw = tuple[int, bytes, str, str]  # a line, as read_raw gives it


class OpenCellError(ValueError):
    """A quoted cell goes on in the next line."""


@dataclass(frozen=True)
class Dialect:
    delimiter: str
    quoting: bool

    def split(self, row: str) -> list[str]:
        """The cells as they stand, quotation marks included. ValueError for a malformed row."""
        if not self.quoting:
            return row.split(self.delimiter)
        cells, at = [], 0
        while True:
            if row[at : at + 1] == '"':
                match = _QUOTED.match(row, at)
                if not match:
                    raise OpenCellError("a quoted cell that does not end")
                end = match.end()
                if row[end : end + 1] not in ("", self.delimiter):
                    raise ValueError(f"a quoted cell goes on after its end at character {end + 1}")
            else:
                end = row.find(self.delimiter, at)
                end = len(row) if end < 0 else end
            cells.append(row[at:end])
            if end == len(row):
                return cells
            at = end + 1

    def value(self, cell: str) -> str:
        return cell[1:-1].replace('""', '"') if self.quoting and cell.startswith('"') else cell

    def cell(self, text: str, before: str) -> str:
        """The cell that holds the text, quoted if it was before or has to be."""
        if not self.quoting:
            return re.sub(r"[\t\r\n]", " ", text)
        if before.startswith('"') or re.search(rf'["{re.escape(self.delimiter)}\r\n]', text):
            return '"' + text.replace('"', '""') + '"'
        return text


def read_csv(file: BinaryIO, options: Options) -> Iterator[Record]:
    lines = read_raw(file)
    if first := next(lines, None):
        dialect = Dialect(max(",;|", key=first[2].count), quoting=True)
        yield from _rows(_joined(chain([first], lines), dialect), dialect, options)


def read_tsv(file: BinaryIO, options: Options) -> Iterator[Record]:
    yield from _rows(read_raw(file), Dialect("\t", quoting=False), options)


def _joined(lines: Iterator[Raw], dialect: Dialect) -> Iterator[Raw]:
    """Rows that may span lines. Where a quoted cell never ends, its line is a row, and the next line starts afresh."""
    waiting: deque[Raw] = deque()

    def take() -> Raw | None:
        return waiting.popleft() if waiting else next(lines, None)

    while first := take():
        used, is_open = [first], not first[3] and _is_open(first[2].removeprefix(BYTE_ORDER_MARK), dialect)
        while is_open:
            more = take()
            used += [more] if more else []
            if not more or more[3] or len(used) > ROW_LINES:
                waiting.extendleft(reversed(used[1:]))
                used = [(*first[:3], "malformed row: a quoted cell that does not end")]
                break
            is_open = _is_open('"' + more[2], dialect)  # the line stands in a quoted cell: as if one began with it
        yield first[0], b"".join(line[1] for line in used), "".join(line[2] for line in used), used[0][3]


def _is_open(row: str, dialect: Dialect) -> bool:
    try:
        dialect.split(row)
    except OpenCellError:
        return True
    except ValueError:
        return False
    return False


def _rows(lines: Iterator[Raw], dialect: Dialect, options: Options) -> Iterator[Record]:
    """The first row decides on number and names of the columns."""
    width, chosen = 0, list[int]()
    for number, raw, text, reason in lines:
        place = f"line {number}"
        mark = BYTE_ORDER_MARK if number == 1 and text.startswith(BYTE_ORDER_MARK) else ""
        ending = match[0] if (match := _END.search(text)) else ""
        row = text.removeprefix(mark).removesuffix(ending)
        cells: list[str] = []
        if row and not reason:
            try:
                cells = dialect.split(row)
            except ValueError as error:
                reason = f"malformed row: {error}"
            if width and cells and len(cells) != width:
                reason = f"a row of {len(cells)} cells, the first row has {width}"
        if reason and not width:
            raise UserError(f"{place}: {reason}; the first row must be right, it names the columns")
        if reason or not cells:
            yield Record(place, raw, reason=reason)
            continue
        if not width:
            width = len(cells)
            chosen = _columns([dialect.value(cell) for cell in cells], options.columns)
            if not all(map(str.isdecimal, options.columns)):
                yield Record(place, raw)
                continue
        texts = tuple(dialect.value(cells[index]) for index in chosen)
        yield Record(place, raw, texts, partial(_render, dialect, mark, cells, chosen, ending))


def _columns(names: list[str], wanted: Sequence[str]) -> list[int]:
    """The places of the wanted columns."""
    for column in wanted:
        if column.isdecimal():
            check(1 <= int(column) <= len(names), f"no column {column}: there are {len(names)}")
        else:
            check(column in names, f"no column '{column}'; there are {', '.join(names)}")
    return [int(column) - 1 if column.isdecimal() else names.index(column) for column in wanted]


def _render(
    dialect: Dialect, mark: str, cells: list[str], chosen: list[int], ending: str, found: Sequence[Any]
) -> bytes:
    new = list(cells)
    for index, translation in zip(chosen, found, strict=True):
        text = translation.hypotheses[0].text
        if text != dialect.value(cells[index]):
            new[index] = dialect.cell(text, cells[index])
    return (mark + dialect.delimiter.join(new) + ending).encode()
