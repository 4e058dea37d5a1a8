"""Test sets: a TSV file with one or more references a line, or a sacreBLEU test set by name."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sacrebleu.dataset import DATASETS
from sacrebleu.utils import SACREBLEU_DIR

from model.errors import UserError


@dataclass(frozen=True)
class TestSet:
    __test__ = False  # not a pytest class

    name: str
    source: str  # language codes
    target: str
    sources: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]  # one tuple a source, each with at least one reference

    @property
    def sha256(self) -> str:
        """Of the content, so that two scores can be known to come from the same sentences."""
        return hashlib.sha256(json.dumps([self.sources, self.references]).encode()).hexdigest()

    def first(self, count: int) -> TestSet:
        """The first ``count`` sentences, under a name that says so."""
        if count < 1:
            raise UserError(f"limit = {count} must be at least 1")
        if count >= len(self.sources):
            return self
        return dataclasses.replace(
            self,
            name=f"{self.name}.first{count}",
            sources=self.sources[:count],
            references=self.references[:count],
        )

    def turned(self) -> TestSet:
        """The other direction. UserError where a sentence has several references."""
        if any(len(references) != 1 for references in self.references):
            raise UserError(f"test set {self.name} has several references a line: it cannot be turned round")
        return dataclasses.replace(
            self,
            source=self.target,
            target=self.source,
            sources=tuple(references[0] for references in self.references),
            references=tuple((source,) for source in self.sources),
        )


def load_test_set(test: str | Path, source: str, target: str, turned: bool = False) -> TestSet:
    """A TSV file (source, one or more references; no quoting) or a sacreBLEU test set such as ``wmt14/full``.

    With ``turned`` the file is for the other direction, target to source.
    An empty cell after the first is no reference: rows may differ in length. UserError for anything else.
    """
    if turned:
        return load_test_set(test, target, source).turned()
    if Path(test).is_file():
        return _read_tsv(Path(test), source, target)
    name = str(test)
    if name in DATASETS:
        return _fetch(name, source, target)
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "'sacrebleu --list' shows the names"
    raise UserError(f"test set '{name}' is neither a file nor a name that sacreBLEU knows; {hint}")


def check_names(tests: Sequence[TestSet]) -> None:
    """UserError where two test sets would be one in the scores."""
    counts = Counter(f"{test.name} {test.source}-{test.target}" for test in tests)
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    if count > 1:
        raise UserError(f"{count} test sets are called {name}; their scores need different file names")


def _read_tsv(path: Path, source: str, target: str) -> TestSet:
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UserError(f"test set {path}: cannot be read: {error.strerror}") from None
    if not content:
        raise UserError(f"test set {path} is empty; expected lines of source<TAB>reference")
    rows = []
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        try:
            text, *cells = line.removesuffix(b"\r").decode("utf-8").split("\t")
        except UnicodeDecodeError as error:
            raise UserError(
                f"test set {path}, line {number}: byte {error.start + 1} is not UTF-8; convert the file with iconv"
            ) from None
        references = tuple(cell for cell in cells if cell.strip())
        if not text.strip() or not references:
            missing = "reference" if text.strip() else "source"
            raise UserError(f"test set {path}, line {number}: no {missing}; expected source<TAB>reference[<TAB>…]")
        rows.append((text, references))
    sources, all_references = zip(*rows, strict=True)
    return TestSet(path.name.removesuffix(".tsv"), source, target, sources, all_references)


def _fetch(name: str, source: str, target: str) -> TestSet:
    dataset, pair = DATASETS[name], f"{source}-{target}"
    if pair not in dataset.langpairs:
        raise UserError(f"test set '{name}' has no {pair}; it has {', '.join(sorted(dataset.langpairs))}")
    folder = Path(SACREBLEU_DIR, name)
    try:
        paths = [dataset.get_source_file(pair), *dataset.get_reference_files(pair)]
        columns = [Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n") for path in paths]
        sources, *references = ([line.rstrip() for line in column] for column in columns)
        rows = list(zip(*references, strict=True))
        if len(rows) != len(sources) or not any(sources):
            raise ValueError("its files are incomplete")
    # sacreBLEU ends in anything from URLError and a damaged archive to sys.exit(1) when a download fails.
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split()).strip("<>")
        raise UserError(
            f"test set '{name}' cannot be fetched ({reason}): delete {folder} and try again with a network, copy that "
            f"folder from a machine that ran 'sacrebleu -t {name} -l {pair} --echo src', or give a TSV file"
        ) from None
    return TestSet(name, source, target, tuple(sources), tuple(rows))
