"""Raw records of a corpus, in the order of its files: TSV, text pairs, JSON lines, Parquet, the Hugging Face hub.

One record that cannot be read (one column, invalid UTF-8, no JSON) comes out with its problem and is reported as
"malformed"; a file that cannot be what it should be (sides of differing length, no such column) is a UserError.
Text files are read here rather than by the ``csv`` and ``text`` builders of ``datasets``: those take a stray
quotation mark for the start of a field, a lone carriage return for the end of a line, and give no line numbers.
"""

from __future__ import annotations

import codecs
import glob
import gzip
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import datasets

from model.errors import UserError

if TYPE_CHECKING:
    from training.corpus import CorpusConfig

HUB = "hf:"
SUFFIXES = (".tsv", ".tsv.gz", ".jsonl", ".jsonl.gz", ".parquet")
ROWS = 1000  # rows taken from Arrow at a time


class Record(NamedTuple):
    """One pair as it stands in the corpus. With a ``problem`` the texts are empty."""

    file: str
    number: int  # line or row, from 1
    source: str
    target: str
    problem: str = ""


def local_files(config: CorpusConfig, root: Path) -> list[Path]:
    """The files of a local corpus, sorted; none for the hub. UserError where there are none or they cannot be read."""
    if isinstance(config.path, tuple):
        files = [root / name for name in config.path]
    elif config.path.startswith(HUB):
        return []
    else:
        files = _matches(root / config.path)
    for file in files:
        if not file.is_file():
            raise UserError(f"corpus {file}: no such file; give a file, a folder, a glob or '{HUB}' and a hub name")
        if not isinstance(config.path, tuple) and not file.name.endswith(SUFFIXES):
            raise UserError(f"corpus {file}: unknown format; use {', '.join(SUFFIXES)} or a pair of text files")
        if (config.source_column or config.target_column) and not file.name.endswith(SUFFIXES[2:]):
            raise UserError(f"corpus {file}: source_column and target_column need JSONL, Parquet or the hub")
        if config.turned and not file.name.endswith(SUFFIXES[:2]):
            raise UserError(
                f"corpus {file}: turned is for TSV; elsewhere name the columns or files the other way round"
            )
    return files


def _matches(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.name.endswith(SUFFIXES))
        if not files:
            raise UserError(f"corpus {path}: no file in this folder ends in {', '.join(SUFFIXES)}")
        return files
    if not path.exists() and glob.has_magic(str(path)):
        files = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        if not files:
            raise UserError(f"corpus {path}: no file matches this pattern")
        return files
    return [path]


def read(config: CorpusConfig, root: Path, start: int = 0) -> Iterator[Record]:
    """Records from number ``start`` (from 0) on."""
    if isinstance(config.path, str) and config.path.startswith(HUB):
        return _hub(config, start)
    files = local_files(config, root)
    if isinstance(config.path, tuple):
        records: Iterator[Record] = _text_pair(*files)
    else:
        records = itertools.chain.from_iterable(_file(file, config) for file in files)
    return itertools.islice(records, start, None)


def _file(path: Path, config: CorpusConfig) -> Iterator[Record]:
    if path.name.endswith(".parquet"):
        return _parquet(path, config)
    return _tsv(path, config.turned) if path.name.endswith(SUFFIXES[:2]) else _jsonl(path, config)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines without their ends, split at line feeds alone: other separators are characters of the text."""
    number = 0
    try:
        with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as file:
            for line in file:
                yield (line if number else line.removeprefix(codecs.BOM_UTF8)).rstrip(b"\r\n")
                number += 1
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"corpus {path}: cannot be read after line {number}: {error}; restore the file") from None


def _tsv(path: Path, turned: bool) -> Iterator[Record]:
    """Source, tab, target, or turned; no quoting, no header; further columns (more references) are left alone."""
    for number, line in enumerate(_lines(path), 1):
        try:
            columns = line.decode().split("\t", 2)
        except UnicodeDecodeError:
            yield Record(path.name, number, "", "", "invalid UTF-8")
            continue
        if len(columns) >= 2:
            yield Record(path.name, number, columns[turned], columns[not turned])
        elif columns[0].strip():
            yield Record(path.name, number, "", "", "one column, no tab")
        else:
            yield Record(path.name, number, "", "")


def _text_pair(source: Path, target: Path) -> Iterator[Record]:
    """Line-aligned files. UserError, at the end, where they differ in length: no line could be trusted."""
    name = f"{source.name}|{target.name}"
    pairs = itertools.zip_longest(_lines(source), _lines(target))
    for number, (one, other) in enumerate(pairs, 1):
        if one is None or other is None:
            more = number + sum(1 for _ in pairs)
            counts = (number - 1, more) if one is None else (more, number - 1)
            raise UserError(
                f"corpus {source} has {counts[0]:,} lines, {target} has {counts[1]:,}: the sides part at line "
                f"{number:,}; give files in which line i translates line i"
            )
        try:
            yield Record(name, number, one.decode(), other.decode())
        except UnicodeDecodeError:
            yield Record(name, number, "", "", "invalid UTF-8")


def _jsonl(path: Path, config: CorpusConfig) -> Iterator[Record]:
    for number, line in enumerate(_lines(path), 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict):
            yield _record(path.name, number, row, config)
        else:
            yield Record(path.name, number, "", "", "not a JSON object in UTF-8")


def _parquet(path: Path, config: CorpusConfig) -> Iterator[Record]:
    try:
        dataset = datasets.load_dataset("parquet", data_files=[glob.escape(str(path))], split="train", streaming=True)
        yield from _rows(dataset, path.name, config, 0)
    except UserError:
        raise
    except Exception as error:  # whatever pyarrow makes of a damaged file
        raise UserError(f"corpus {path}: not a readable Parquet file: {_first_line(error)}") from error


def _hub(config: CorpusConfig, start: int) -> Iterator[Record]:
    path = str(config.path).removeprefix(HUB)
    try:
        dataset = datasets.load_dataset(path, config.name, split=config.split, streaming=config.streaming)
        if start:
            dataset = dataset.skip(start)
        yield from _rows(dataset, str(config.path), config, start)
    except UserError:
        raise
    except Exception as error:  # network, unknown name, missing configuration: a dozen classes of three packages
        raise UserError(
            f"corpus {config.path}: cannot be loaded from the Hugging Face hub: {_first_line(error)} "
            "Check the network, path, name and split, or download it and give the local file."
        ) from error


def _rows(dataset: Any, file: str, config: CorpusConfig, start: int) -> Iterator[Record]:
    number = start
    for batch in dataset.iter(ROWS):  # a dict of columns
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield _record(file, number, dict(zip(batch, values, strict=True)), config)


def _record(file: str, number: int, row: Mapping[str, Any], config: CorpusConfig) -> Record:
    if not row:  # a blank line
        return Record(file, number, "", "")
    texts = []
    for column, language, side in (
        (config.source_column, config.source, "source"),
        (config.target_column, config.target, "target"),
    ):
        names = (column,) if column else (language, f"translation.{language}", side)
        text = next((value for name in names if (value := _value(row, name)) is not None), None)
        if not isinstance(text, str):
            wanted = " or ".join(f"'{name}'" for name in names)
            if number == 1 and text is None:
                raise UserError(
                    f"corpus {file}: no column {wanted}; it has {_names(row)}; set {side}_column to one of them"
                )
            return Record(file, number, "", "", f"no text in column {wanted}")
        try:
            text.encode()
        except UnicodeEncodeError:  # from an escape of JSON
            return Record(file, number, "", "", "half a surrogate pair, which is no character")
        texts.append(text)
    return Record(file, number, *texts)


def _value(row: Mapping[str, Any], name: str) -> Any:
    """``row[name]``; ``a.b`` is key b of the nested column a, as in the WMT sets (``translation.de``)."""
    if name in row or "." not in name:
        return row.get(name)
    outer, inner = name.split(".", 1)
    nested = row.get(outer)
    return _value(nested, inner) if isinstance(nested, Mapping) else None


def _names(row: Mapping[str, Any]) -> str:
    names = [
        f"'{key}.{inner}'" if inner else f"'{key}'"
        for key, value in row.items()
        for inner in (value if isinstance(value, Mapping) and value else [""])
    ]
    return ", ".join(names)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line.rstrip('.')}."
