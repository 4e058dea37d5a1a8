"""The BLEU harness: test set -> Translator -> scores that say under which conditions they hold.

BLEU (13a, mixed case), chrF2 and TER are sacreBLEU's, with its signatures, 95 % bootstrap confidence intervals and, for
several systems, the paired bootstrap test (Koehn 2004) of each against the first. The translations are kept beside
the scores, so that anyone can score them again.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import sacrebleu
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

from model.config import SearchConfig
from model.errors import UserError
from model.machine import processor
from training.testset import TestSet

if TYPE_CHECKING:  # it imports torch
    from model.translator import Translation

METRICS = ("bleu", "chrf", "ter")
OTHER_METRICS = ("bleu-moses",)  # only where asked for
RESAMPLES = 1000  # bootstrap resamples, for intervals and p-values alike; the signature's `bs`
SIGNIFICANT = 0.05

References = Sequence[Sequence[str]]  # references[i]: one or more references of sentence i; the number may vary


class System(Protocol):
    """What is scored: a `model.translator.Translator`, or anything that translates like one."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...  # of the weights file

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig = ...,
        progress: Callable[[int], object] | None = ...,
    ) -> list[Translation]: ...


@dataclass(frozen=True)
class ScoreReport:
    """One metric of one system. The interval is mean ± confidence, of 95 %."""

    metric: str  # BLEU, chrF2, TER, BLEU-moses
    score: float  # 0..100; TER counts errors: lower is better and may pass 100
    mean: float  # of the bootstrap resamples
    confidence: float  # half the width of the interval around `mean`
    signature: str
    p_value: float | None = None  # that the difference from the first system is chance; None for the first system


@dataclass(frozen=True)
class SystemReport:
    name: str
    hash: str
    hypotheses: tuple[str, ...]
    seconds: float
    sentences_per_second: float
    length_ratio: float  # words in the hypotheses / words in the closest references (13a tokens)
    scores: tuple[ScoreReport, ...]


@dataclass(frozen=True)
class Evaluation:
    test_set: TestSet
    search: SearchConfig
    processor: str
    systems: tuple[SystemReport, ...]  # the first is the baseline of the paired tests
    directory: Path | None  # where translations and scores were written

    def as_dict(self) -> dict[str, Any]:
        """All but the texts, for JSON."""
        systems = []
        for system in self.systems:
            fields = {f.name: getattr(system, f.name) for f in dataclasses.fields(system) if f.name != "hypotheses"}
            systems.append(fields | {"scores": [dataclasses.asdict(score) for score in system.scores]})
        return {
            "test": self.test_set.name,
            "sha256": self.test_set.sha256,
            "source": self.test_set.source,
            "target": self.test_set.target,
            "sentences": len(self.test_set.sources),
            "search": dataclasses.asdict(self.search),
            "processor": self.processor,
            "baseline": {"name": self.systems[0].name, "hash": self.systems[0].hash},
            "systems": systems,
            "directory": None if self.directory is None else str(self.directory),
        }

    def table(self) -> str:
        """Aligned columns for people, the signatures below."""
        metrics = self.systems[0].scores
        rows = [["system", *(score.metric for score in metrics), "length", "sentences/s"]]
        for system in self.systems:
            cells = [_cell(score) for score in system.scores]
            rows.append(
                [
                    f"{system.name} {system.hash[:8]}",
                    *cells,
                    f"{system.length_ratio:.3f}",
                    f"{system.sentences_per_second:.1f}",
                ]
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        count, search = len(self.test_set.sources), self.search
        lines = [
            f"{self.test_set.name}, {self.test_set.source}-{self.test_set.target}, {count:,} sentences, beam "
            f"{search.beam_size}, length penalty {search.length_penalty:g}, {self.processor}",
            *("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows),
            "± is the 95 % bootstrap interval" + "; TER: lower is better" * any(s.metric == "TER" for s in metrics),
            *(f"{score.metric}|{score.signature}" for score in metrics),
        ]
        if len(self.systems) > 1:
            lines.insert(-len(metrics), f"p: paired bootstrap against {self.systems[0].name}; * is p < {SIGNIFICANT}")
        if self.directory is not None:
            lines.append(f"translations and scores: {self.directory}")
        return "\n".join(lines)


def score(
    hypotheses: Sequence[str], references: References, metrics: Sequence[str] = METRICS, target: str = ""
) -> list[ScoreReport]:
    """Score one system; one report a metric. UserError for an unknown metric."""
    return _compare([("system", hypotheses)], references, scorers(metrics, target))[0]


def quick_bleu(hypotheses: Sequence[str], references: References, target: str = "") -> float:
    """Corpus BLEU (13a or the target language's tokens, mixed case), 0..100, without an interval: for validation while
    training."""
    (bleu,) = scorers(["bleu"], target).values()
    return float(bleu.corpus_score(hypotheses, _columns(hypotheses, references)).score)


def evaluate(
    translators: Sequence[System],
    test_set: TestSet,
    search: SearchConfig = SearchConfig(),
    metrics: Sequence[str] = METRICS,
    output: str | Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Evaluation:
    """Translate the test set with every system, score it, and test each system against the first.

    Writes ``OUTPUT/<test>.<pair>.beam<N>/<system>.<hash>/{hypotheses.txt, scores.json}`` where ``output`` is given;
    the translations of a system as soon as they are there. ``progress`` is handed to the translators.
    """
    found = scorers(metrics, test_set.target)  # before the long part: an unknown metric fails at once
    names = _unique([translator.name for translator in translators])
    folders = [_file_name(f"{name}.{system.hash[:8]}") for name, system in zip(names, translators, strict=True)]
    directory = None if output is None else _make_directory(Path(output), test_set, search, folders)
    texts: list[list[str]] = []
    seconds: list[float] = []
    for folder, translator in zip(folders, translators, strict=True):
        start = time.perf_counter()
        translations = translator.translate(test_set.sources, test_set.source, test_set.target, search, progress)
        seconds.append(time.perf_counter() - start)
        texts.append([_one_line(translation.text) for translation in translations])
        if directory is not None:
            _write(directory / folder / "hypotheses.txt", "".join(f"{text}\n" for text in texts[-1]))
    compared = _compare(list(zip(names, texts, strict=True)), test_set.references, found)
    systems = tuple(
        SystemReport(
            name=name,
            hash=translator.hash,
            hypotheses=tuple(text),
            seconds=taken,
            sentences_per_second=len(text) / taken,
            length_ratio=sacrebleu.BLEU().corpus_score(text, _columns(text, test_set.references)).ratio,
            scores=tuple(scores),
        )
        for name, translator, text, taken, scores in zip(names, translators, texts, seconds, compared, strict=True)
    )
    evaluation = Evaluation(test_set, search, processor_name(), systems, directory)
    if directory is not None:
        whole = evaluation.as_dict()
        for folder, report in zip(folders, whole["systems"], strict=True):
            content = json.dumps(whole | {"systems": [report]}, indent=2, ensure_ascii=False) + "\n"
            _write(directory / folder / "scores.json", content)
    return evaluation


def processor_name() -> str:
    """Speed means nothing without it, and threads and precision shift a score in its last digit."""
    return f"{processor()}, {os.cpu_count()} CPUs"


def _compare(
    systems: list[tuple[str, Sequence[str]]], references: References, metrics: dict[str, Metric]
) -> list[list[ScoreReport]]:
    for _, hypotheses in systems:
        columns = _columns(hypotheses, references)
    # With one system this is plain bootstrap resampling: PairedTest draws the same resamples as corpus_score does.
    signatures, found = PairedTest(systems, metrics, columns, test_type="bs", n_samples=RESAMPLES)()
    results: dict[str, Any] = dict(found)  # of sacrebleu.significance.Result, beside a column of names
    reports: list[list[ScoreReport]] = [[] for _ in systems]
    for metric, signature in signatures.items():
        for i, result in enumerate(results[metric]):
            p_value = None if i == 0 else float(result.p_value)
            if i > 0 and result.score == results[metric][0].score:
                p_value = 1.0  # sacreBLEU counts with ">" and would give identical systems the smallest p there is
            score, mean, confidence = float(result.score), float(result.mean), float(result.ci)
            reports[i].append(ScoreReport(metric, score, mean, confidence, str(signature), p_value))
    return reports


def scorers(names: Sequence[str], target: str) -> dict[str, Metric]:
    """sacreBLEU's metrics by their names. UserError for an unknown one, or where a language's tokenizer is missing."""
    if not names:
        raise UserError(f"no metric given; known metrics: {', '.join(METRICS)}")
    known = (*METRICS, *OTHER_METRICS)
    for name in names:
        if name not in known:
            raise UserError(f"unknown metric '{name}'; known metrics: {', '.join(known)}")
    # The target language changes the tokenizer of Chinese, Japanese and Korean only; 13a knows no words there.
    make: dict[str, Callable[[], Metric]] = {
        "bleu": lambda: sacrebleu.BLEU(trg_lang=target),
        "chrf": sacrebleu.CHRF,
        "ter": sacrebleu.TER,
        "bleu-moses": lambda: _moses(target),
    }
    try:
        return {name: make[name]() for name in names}
    except (ImportError, RuntimeError):
        raise UserError(
            f"BLEU for '{target}' needs a tokenizer: pip install 'sacrebleu[{target}]'; chrF needs none"
        ) from None


def _moses(language: str) -> Metric:
    from training.moses import MosesBLEU  # its tables are slow to import

    return MosesBLEU(language or "en")


def _columns(hypotheses: Sequence[str], references: References) -> list[list[Any]]:
    """References by column, None where a sentence has fewer; sacreBLEU takes it, though its types say `str`."""
    if not hypotheses or len(hypotheses) != len(references):  # sacreBLEU would cut the longer one without a word
        raise ValueError(f"{len(hypotheses)} hypotheses for {len(references)} references")
    if not all(references):
        raise ValueError("a sentence has no reference")
    return [list(column) for column in itertools.zip_longest(*references)]


def _one_line(text: str) -> str:
    """One translation is one line of the file, for every reader's idea of a line end."""
    return " ".join(text.splitlines())


def _unique(names: Sequence[str]) -> list[str]:
    """Checkpoints are named after their directories, and every run may have its `best`: best, best-2, ..."""
    seen: list[str] = []
    for name in names:
        candidates = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
        seen.append(next(candidate for candidate in candidates if candidate not in seen))
    return seen


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name).strip(".") or "_"


def _make_directory(output: Path, test_set: TestSet, search: SearchConfig, folders: Sequence[str]) -> Path:
    pair = f"{test_set.source}-{test_set.target}"
    test = _file_name(test_set.name).removesuffix(f".{pair}")
    penalty = "" if search.length_penalty == SearchConfig.length_penalty else f".lp{search.length_penalty:g}"
    directory = output / f"{test}.{pair}.beam{search.beam_size}{penalty}"
    try:
        for folder in folders:
            (directory / folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output {directory}: cannot be written: {error.strerror}; give another --output") from None
    return directory


def _write(path: Path, content: str) -> None:
    try:
        path.write_text(content, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"output {path}: cannot be written: {error.strerror}; give another --output") from None


def _cell(score: ScoreReport) -> str:
    cell = f"{score.score:.2f} ± {score.confidence:.2f}"
    if score.p_value is None:
        return cell
    return f"{cell} (p = {score.p_value:.3f}){'*' if score.p_value < SIGNIFICANT else ''}"
