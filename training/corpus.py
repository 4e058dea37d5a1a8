"""Parallel corpora: read, cleaned with an account, kept as memory-mapped Arrow files, or streamed.

What is cleaned once is kept under ``cache_dir``; a later start maps it again in a moment. Duplicates are found when
the corpora of a mixture are put together, so that a corpus added to the mixture leaves the work on the others valid.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import itertools
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.arrow_writer import ArrowWriter
from tqdm import tqdm

from model.config import check
from model.errors import UserError
from model.segment import normalise
from training.account import Account, CorpusAccount
from training.cleaning import CLEANING_VERSION, Cleaner, CleaningConfig
from training.readers import HUB, SUFFIXES, Record, local_files, read

CHUNK = 4096  # pairs written at a time
BLOCK = 100_000  # records of a streamed corpus within which duplicates are found
MALFORMED_LIMIT = 100  # more malformed records than this, and more than a tenth of all: not the format it should be
FEATURES = datasets.Features(
    {"source": datasets.Value("string"), "target": datasets.Value("string"), "key": datasets.Value("int64")}
)


@dataclass(frozen=True)
class CorpusConfig:
    """One corpus of a mixture: a ``[[corpus]]`` table of a recipe."""

    path: str | tuple[str, str]  # file, folder or glob of .tsv[.gz], .jsonl[.gz], .parquet; [source, target]; hf:NAME
    source: str  # what is translated from
    target: str
    weight: float = 1.0  # share of the sentences drawn, relative to the other corpora
    turned: bool = False  # TSV: the target stands in the first column, the source in the second
    source_column: str | None = None  # JSONL, Parquet, hub; default: the language code, translation.CODE, "source"
    target_column: str | None = None
    name: str | None = None  # hub only: which configuration, e.g. "de-en"
    split: str = "train"  # hub only
    streaming: bool = False  # read as training goes: no waiting and no disk, for what is larger than either
    both_ways: bool = True  # train target -> source as well
    clean: bool = True  # False drops only what is empty or malformed

    def __post_init__(self) -> None:
        if isinstance(self.path, list):  # TOML has no tuples
            object.__setattr__(self, "path", tuple(self.path))
        parts = self.path if isinstance(self.path, tuple) else (self.path,)
        check(all(isinstance(part, str) and part for part in parts), f"path = {self.path!r} must be text")
        check(
            isinstance(self.path, str) or len(parts) == 2, f"path = {list(parts)} must name a source and a target file"
        )
        for side in ("source", "target"):
            code = getattr(self, side)
            check(
                isinstance(code, str) and re.fullmatch(r"[a-zA-Z]+(-[a-zA-Z]+)*", code) is not None,
                f"{side} = {code!r} must be a language code such as 'de'",
            )
        check(self.source != self.target, f"source and target are both '{self.source}'; name two languages")
        check(0 < self.weight < math.inf, f"weight = {self.weight} must be positive; leave the corpus out instead of 0")
        check(self.path != HUB, f"path = '{HUB}' must go on with the name of a data set, such as '{HUB}wmt14'")
        hub = isinstance(self.path, str) and self.path.startswith(HUB)
        check(hub or self.name is None, f"name = '{self.name}' belongs to hub data sets; '{self.path}' is a local path")
        check(not (hub and self.turned), f"turned is for TSV files; '{self.path}' has columns with names")

    @property
    def title(self) -> str:
        """The short name: "tatoeba.en-de" for ``data/tatoeba.en-de.tsv.gz``."""
        if isinstance(self.path, str) and self.path.startswith(HUB):
            return "/".join(part for part in (self.path, self.name) if part)
        last = Path(self.path if isinstance(self.path, str) else self.path[0]).name
        suffix = max((suffix for suffix in SUFFIXES if last.endswith(suffix)), key=len, default="")
        return last.removesuffix(suffix) or "corpus"


class LoadedCorpus:
    """Cleaned pairs with random access; the texts stay on disk (memory-mapped), 8 bytes a pair in memory."""

    def __init__(self, config: CorpusConfig, name: str, dataset: datasets.Dataset, rows: np.ndarray | None) -> None:
        self.config, self.name = config, name
        self.source, self.target = config.source, config.target
        self.weight, self.both_ways = config.weight, config.both_ways
        self._dataset, self._rows = dataset.select_columns(["source", "target"]), rows

    def __len__(self) -> int:
        return len(self._dataset) if self._rows is None else len(self._rows)

    def __getitem__(self, index: int) -> tuple[str, str]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        return self.take([index])[0]

    def take(self, indices: Sequence[int] | np.ndarray) -> list[tuple[str, str]]:
        """The (source, target) pairs at ``indices``, in that order."""
        wanted = np.asarray(indices, dtype=np.int64)
        columns = self._dataset[wanted if self._rows is None else self._rows[wanted]]
        return list(zip(columns["source"], columns["target"], strict=True))


class StreamedCorpus:
    """Pairs cleaned as they are read. Duplicates are found only within blocks of 100,000 records."""

    def __init__(
        self, config: CorpusConfig, name: str, cleaning: CleaningConfig, root: Path, account: CorpusAccount
    ) -> None:
        self.config, self.name = config, name
        self.source, self.target = config.source, config.target
        self.weight, self.both_ways = config.weight, config.both_ways
        self.position = 0  # raw records behind the last pair handed out: iterate(position) goes on after it
        self._cleaning, self._root, self._account = cleaning, root, account

    def iterate(self, start: int = 0) -> Iterator[tuple[str, str]]:
        """Pairs from raw record ``start`` on, the same ones as an uninterrupted run hands out from there.

        Records of the block before ``start`` are read again, since their duplicates behind ``start`` are dropped.
        The account goes on counting.
        """
        cleaner = Cleaner(self._cleaning, self.source, self.target)
        duplicates = self.config.clean and self._cleaning.duplicates
        block = start - start % BLOCK if duplicates else start
        seen: set[int] = set()
        for number, record in enumerate(read(self.config, self._root, block), block):
            repeated = False
            if duplicates:
                if number % BLOCK == 0:
                    seen.clear()
                key = _key(self.config, normalise(record.source), normalise(record.target))
                repeated = key in seen
                seen.add(key)
            if number < start:
                continue
            pair = _clean(record, self.config, cleaner, self._account)
            if pair and repeated:
                self._account.kept -= 1
                self._account.drop("duplicate", _example(record))
            elif pair:
                self.position = number + 1
                yield pair


def load_corpora(
    configs: Sequence[CorpusConfig], cleaning: CleaningConfig, root: Path | str, cache_dir: Path | str
) -> tuple[list[LoadedCorpus | StreamedCorpus], Account]:
    """Load and clean the corpora; relative paths start at ``root``. Names are unique.

    Of pairs that several corpora share, the first corpus keeps them. Processes that start together clean once: the
    others wait. The account of a streamed corpus grows as it is read. Raises UserError.
    """
    root, cache_dir = Path(root), Path(cache_dir)
    account = Account()
    corpora: list[LoadedCorpus | StreamedCorpus] = []
    seen = np.empty(0, dtype=np.int64)
    names: set[str] = set()
    for config in configs:
        candidates = itertools.chain([config.title], (f"{config.title} ({i})" for i in itertools.count(2)))
        name = next(name for name in candidates if name not in names)
        names.add(name)
        if config.streaming:
            local_files(config, root)  # a missing file is an error now, not hours later
            account.corpora.append(CorpusAccount(name, notes=[f"streamed: duplicates within {BLOCK:,} records only"]))
            corpora.append(StreamedCorpus(config, name, cleaning, root, account.corpora[-1]))
            continue
        dataset, counts = _cleaned(config, cleaning, root, cache_dir)
        counts.name = name
        rows = None
        if config.clean and cleaning.duplicates:
            keys = dataset.data.column("key").to_numpy()
            first = np.sort(np.unique(keys, return_index=True)[1])
            rows = first[~np.isin(keys[first], seen)]
            seen = np.concatenate([seen, keys[rows]])
            if len(rows) < len(keys):
                gap = np.flatnonzero(rows != np.arange(len(rows)))
                example = dataset[int(gap[0]) if len(gap) else len(rows)]
                counts.drop("duplicate", _shorten(example["source"], example["target"]), len(keys) - len(rows))
                counts.kept = len(rows)
        account.corpora.append(counts)
        if not counts.kept:
            raise UserError(f"corpus {name}: no pair is left ({counts.summary()}); check its format and languages")
        corpora.append(LoadedCorpus(config, name, dataset, rows))
    return corpora, account


def _cleaned(
    config: CorpusConfig, cleaning: CleaningConfig, root: Path, cache_dir: Path
) -> tuple[datasets.Dataset, CorpusAccount]:
    """The cleaned corpus, duplicates included, from the cache or made now."""
    title = re.sub(r"[^\w.-]", "_", config.title)
    directory = cache_dir / f"{title}-{_fingerprint(config, cleaning, root)}"
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with open(directory.with_name(directory.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released by the kernel even after SIGKILL
            try:
                return _open(directory)
            except (OSError, ValueError, TypeError):  # not there, or damaged: make it
                shutil.rmtree(directory, ignore_errors=True)
            temporary = directory.with_name(directory.name + ".tmp")
            shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
            try:
                temporary.mkdir()
                _write(config, cleaning, root, temporary)
                temporary.rename(directory)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
            return _open(directory)
    except OSError as error:
        raise UserError(
            f"cannot keep the cleaned corpus in {cache_dir}: {error.strerror or error}; "
            "free space or choose another cache folder"
        ) from None


def _open(directory: Path) -> tuple[datasets.Dataset, CorpusAccount]:
    account = CorpusAccount(**json.loads((directory / "account.json").read_text()))
    dataset = datasets.Dataset.from_file(str(directory / "pairs.arrow"))
    if len(dataset) != account.kept:
        raise ValueError(f"{directory} holds {len(dataset)} pairs, not {account.kept}")
    return dataset, account


def _write(config: CorpusConfig, cleaning: CleaningConfig, root: Path, directory: Path) -> None:
    account = CorpusAccount(config.title)
    cleaner = Cleaner(cleaning, config.source, config.target)
    if config.clean and cleaner.unchecked:
        account.notes.append(f"languages not checked: {', '.join(cleaner.unchecked)} unknown to the detector")
    progress = tqdm(desc=f"cleaning {config.title}", unit=" pairs", disable=None, leave=False)  # on a terminal only
    records = read(config, root)
    with ArrowWriter(path=str(directory / "pairs.arrow"), features=FEATURES) as writer:
        while chunk := list(itertools.islice(records, CHUNK)):
            pairs = [pair for record in chunk if (pair := _clean(record, config, cleaner, account))]
            if pairs:
                sources, targets = zip(*pairs, strict=True)
                keys = [_key(config, *pair) for pair in pairs]
                writer.write_batch({"source": sources, "target": targets, "key": keys})
            progress.update(len(chunk))
        progress.close()
        writer.finalize()
    (directory / "account.json").write_text(json.dumps(dataclasses.asdict(account)))


def _clean(record: Record, config: CorpusConfig, cleaner: Cleaner, account: CorpusAccount) -> tuple[str, str] | None:
    """The normalised pair, or None where it is dropped; either is entered in the account."""
    if record.problem:
        account.drop("malformed", f"{record.file}:{record.number}: {record.problem}")
        malformed = account.dropped["malformed"]
        if malformed > max(MALFORMED_LIMIT, account.read / 10):
            raise UserError(
                f"corpus {config.title}: {malformed:,} of the first {record.number:,} records are malformed, first "
                f"{account.examples['malformed']}; check the format and encoding (UTF-8) of the file"
            )
        return None
    source, target = normalise(record.source), normalise(record.target)
    reason = cleaner.reason(source, target) if config.clean else None if source and target else "empty"
    if reason is None:
        account.kept += 1
        return source, target
    if reason not in account.examples:
        account.examples[reason] = _example(record)
    account.drop(reason, "")
    return None


def _key(config: CorpusConfig, source: str, target: str) -> int:
    """64 bits of the pair with its languages. Trained both ways, a pair turned round is the same pair."""
    sides = [f"{config.source}\t{source}", f"{config.target}\t{target}"]
    text = "\n".join(sorted(sides) if config.both_ways else ["one way", *sides]).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little", signed=True)


def _example(record: Record) -> str:
    return f"{record.file}:{record.number}: {_shorten(record.source, record.target)}"


def _shorten(*texts: str) -> str:
    """For display alone."""
    short = (text if len(text) <= 60 else text[:59] + "…" for text in texts)
    return " | ".join(text if text.isprintable() else ascii(text)[1:-1] for text in short)


def _fingerprint(config: CorpusConfig, cleaning: CleaningConfig, root: Path) -> str:
    """Names what the cleaned corpus depends on: files, languages, columns, rules, this code."""
    irrelevant = ("weight", "streaming", "path", "clean")
    facts: dict[str, Any] = {
        "version": CLEANING_VERSION,
        "config": {key: value for key, value in dataclasses.asdict(config).items() if key not in irrelevant},
        "cleaning": {**dataclasses.asdict(cleaning), "duplicates": None} if config.clean else None,
        "files": [
            (str(file.resolve()), (stat := file.stat()).st_size, stat.st_mtime_ns) for file in local_files(config, root)
        ]
        or config.path,
    }
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()
