"""Lines: what standard input and plain text files hold, and what all formats of a record a line are read with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, BinaryIO

from service.documents.record import BYTE_ORDER_MARK, IN_UTF_16, UTF_16, Options, Record, not_utf8

LINE_BYTES = 16 << 20  # a longer line is no text: memory stays flat whatever the input


def read_raw(file: BinaryIO) -> Iterator[tuple[int, bytes, str, str]]:
    """Number, bytes and text of each line, its end included, and why it is bad ("" if it is not).

    Only ``\\n`` ends a line. Of a line that is over the limit come its first bytes and its end.
    """
    number, in_utf_16 = 0, False
    while raw := file.readline(LINE_BYTES):
        number += 1
        in_utf_16 = in_utf_16 or (number == 1 and raw.startswith(UTF_16))
        if len(raw) == LINE_BYTES and not raw.endswith(b"\n"):
            rest = raw
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(LINE_BYTES)
            end = b"\n" if rest else b""
            yield number, raw[:1000] + end, "", f"the line is longer than {LINE_BYTES >> 20} MiB; break it up"
            continue
        if in_utf_16:  # its other lines may well be UTF-8, full of NULs
            yield number, raw, "", IN_UTF_16
            continue
        try:
            yield number, raw, raw.decode(), ""
        except UnicodeDecodeError as error:
            yield number, raw, "", not_utf8(raw[error.start], error.start)


def read(file: BinaryIO, options: Options) -> Iterator[Record]:
    """A record a line; an empty line stands in for a bad one, so that the lines of input and output stay in step."""
    for number, raw, text, reason in read_raw(file):
        end = b"\r\n" if raw.endswith(b"\r\n") else b"\n" if raw.endswith(b"\n") else b""
        if reason:
            yield Record(f"line {number}", raw, instead=end, reason=reason)
            continue
        mark = BYTE_ORDER_MARK if number == 1 and text.startswith(BYTE_ORDER_MARK) else ""
        line = text[len(mark) : len(text) - len(end)]
        yield Record(f"line {number}", raw, (line,), partial(_render, line, mark, end.decode(), options), end)


def _render(line: str, mark: str, end: str, options: Options, found: Sequence[Any]) -> bytes:
    text = format_line(line, end, found[0], options.format, options.scores, options.alignments)
    return ((mark if options.format == "text" else "") + text).encode()


def format_line(source: str, end: str, translation: Any, format: str, scores: bool, alignments: bool = False) -> str:
    """What the output says of one line of the input; always one line.

    text: the hypotheses, separated by tabs, each followed by its score if ``scores`` and by the pairs of words that
    belong together ("0-0 1-2") if ``alignments``.
    tsv: the source, then as text. A tab inside a text becomes a space.
    jsonl: an object with source, translation, score, hypotheses (text, score) and warnings (code, detail); nothing is
    replaced.
    """
    hypotheses = translation.hypotheses
    if format == "jsonl":
        found: list[dict[str, Any]]
        found = [{"text": hypothesis.text, "score": round(hypothesis.score, 6)} for hypothesis in hypotheses]
        if alignments:
            for one, hypothesis in zip(found, hypotheses, strict=True):
                one["alignment"] = hypothesis.alignment
        best = {"source": source, "translation": found[0]["text"], "score": found[0]["score"]}
        warnings = [asdict(one) for one in translation.warnings]
        return json.dumps({**best, "hypotheses": found, "warnings": warnings}, ensure_ascii=False) + "\n"
    columns = [source] if format == "tsv" else []
    for hypothesis in hypotheses:
        # A model may write any character, a line end too, and the output must keep the number of lines.
        columns.append(hypothesis.text.replace("\n", " "))
        if scores:
            columns.append(f"{hypothesis.score + 0.0:.4f}")  # + 0.0: never "-0.0000"
        if alignments:
            columns.append(hypothesis.alignment)
    if len(columns) > 1:
        columns = [column.replace("\t", " ") for column in columns]
    return "\t".join(columns) + end
