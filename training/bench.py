"""Benchmarks: our decoding against other engines with the same weights, interleaved in one run.

Each engine lives in a process of its own, so that memory and load time are its own and an idle one takes no core;
the parent lets them translate the same sentences in turns. Text in, text out, tokenisation included, for everyone.
"""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from model.errors import UserError
from model.machine import processor
from training.testset import TestSet
from training.worker import Worker

Translate = Callable[[Sequence[str], int], list[str]]  # texts, beam size -> texts
BATCHES = ((1, 100), (64, 512), (512, 512))  # sentences a call, sentences in all
BEAMS = (1, 5)
ROUNDS = 5


@dataclass(frozen=True)
class Setting:
    """One way to run an engine."""

    engine: str  # "nmt", "ctranslate2" or "transformers"
    dtype: str
    threads: int
    inter_threads: int = 1  # ctranslate2: batches at the same time, each with threads / inter_threads


def bench_decode(
    checkpoint: str | None, test: TestSet, against: Sequence[str], quick: bool, log: Callable[[str], None]
) -> dict[str, Any]:
    """The object that ``nmt bench decode --json`` prints. UserError for an engine that is unknown or not installed."""
    if unknown := set(against) - set(LOADERS):
        raise UserError(f"unknown engine '{unknown.pop()}'; --against knows {', '.join(LOADERS)}")
    settings = [Setting("nmt", "float32", 1)]
    for threads in (1,) if quick else (1, 2):
        settings.append(Setting("nmt", "auto", threads))
        if "ctranslate2" in against:  # the best of its ways to use the threads counts
            settings += [Setting("ctranslate2", "int8", threads, n) for n in ((1,) if threads == 1 else (1, threads))]
        if "transformers" in against:
            settings += [
                Setting("transformers", dtype, threads)
                for dtype in (("bfloat16",) if quick else ("float32", "bfloat16"))
            ]
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "ctranslate2"
        if "ctranslate2" in against:
            from model.checkpoint import PRETRAINED
            from training.export import to_ctranslate2

            to_ctranslate2(checkpoint or PRETRAINED, exported)
        workers = [_Worker(setting, checkpoint, exported, test) for setting in settings]
        try:
            return _measure(workers, test, quick, log)
        finally:
            for worker in workers:
                worker.close()


def _measure(workers: list[_Worker], test: TestSet, quick: bool, log: Callable[[str], None]) -> dict[str, Any]:
    rows = []
    for batch, count in BATCHES[:2] if quick else BATCHES:
        count = min(count, len(test.sources), 128 if quick else count)
        for beam in BEAMS:
            runs: dict[_Worker, list[list[float]]] = {worker: [] for worker in workers}
            texts: dict[_Worker, list[str]] = {}
            for round in range(1 + (2 if quick else ROUNDS)):  # the first one warms up
                for worker in workers:
                    if worker.setting.dtype in ("float32", "bfloat16") and round > 1:
                        continue  # the reference of the outputs, and those that are far behind: one round will do
                    seconds, texts[worker] = worker.run(batch, count, beam)
                    if round:
                        runs[worker].append(seconds)
            exact = texts[workers[0]]
            found = [_row(worker, batch, beam, runs[worker], texts[worker], exact, test) for worker in workers]
            best = _best(found)
            rows += best
            for row in best:
                log(
                    f"batch {batch:3}, beam {beam}, {row['threads']} threads, {row['engine']:11} {row['dtype']:8}: "
                    f"{row['sentences'] / row['seconds']:7.1f} sentences/s, {row['latency_ms']:8.2f} ms a call, "
                    f"BLEU {row['bleu']:.2f}, {100 * row['identical_to_float32']:.1f} % as float32"
                )
    return {"machine": {"processor": processor(), "cores": os.cpu_count()}, "test": test.name, "rows": rows}


def _row(
    worker: _Worker, batch: int, beam: int, runs: list[list[float]], texts: list[str], exact: list[str], test: TestSet
) -> dict[str, Any]:
    from training.evaluate import quick_bleu

    return {
        "engine": worker.setting.engine,
        "dtype": worker.dtype,
        "batch": batch,
        "beam": beam,
        "threads": worker.setting.threads,
        "inter_threads": worker.setting.inter_threads,
        "sentences": len(texts),
        "seconds": statistics.median(sum(run) for run in runs),
        "latency_ms": 1000 * statistics.median(call for run in runs for call in run),
        "bleu": quick_bleu(texts, test.references[: len(texts)], test.target),
        "identical_to_float32": sum(a == b for a, b in zip(texts, exact, strict=True)) / len(texts),
        "peak_mb": worker.peak_mb,
        "load_seconds": worker.load_seconds,
    }


def _best(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of a peer's ways to use its threads, the fastest."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = (row["engine"], row["dtype"] if row["engine"] == "nmt" else "", row["threads"])
        if key not in best or row["seconds"] < best[key]["seconds"]:
            best[key] = row
    return list(best.values())


class _Worker(Worker):
    def __init__(self, setting: Setting, checkpoint: str | None, exported: Path, test: TestSet) -> None:
        self.setting = setting
        os.environ["OMP_NUM_THREADS"] = str(setting.threads)  # what the child inherits
        super().__init__(setting.engine, _serve, setting, checkpoint, str(exported), test)
        self.dtype, self.load_seconds = self.answer()
        self.peak_mb = 0.0

    def run(self, batch: int, count: int, beam: int) -> tuple[list[float], list[str]]:
        """Seconds of each call, and the translations."""
        seconds, texts, self.peak_mb = self.ask((batch, count, beam))
        return seconds, texts


def _serve(pipe: Connection, setting: Setting, checkpoint: str | None, exported: str, test: TestSet) -> None:
    try:
        start = time.perf_counter()
        load = _load_nmt if setting.engine == "nmt" else LOADERS[setting.engine]
        translate, dtype = load(setting, checkpoint, exported, test)
        translate(test.sources[:1], 1)
        pipe.send((dtype, time.perf_counter() - start))
        while (task := pipe.recv()) is not None:
            batch, count, beam = task
            seconds, texts = [], []
            for i in range(0, count, batch):
                start = time.perf_counter()
                texts += translate(test.sources[i : min(i + batch, count)], beam)
                seconds.append(time.perf_counter() - start)
            pipe.send((seconds, texts, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    except Exception as error:
        pipe.send(UserError(f"{setting.engine}: {error}"))


def _load_nmt(setting: Setting, checkpoint: str | None, exported: str, test: TestSet) -> tuple[Translate, str]:
    import torch

    from model.config import SearchConfig
    from model.translator import Translator

    torch.set_num_threads(setting.threads)
    translator = Translator.load(checkpoint, dtype=setting.dtype)

    def translate(texts: Sequence[str], beam: int) -> list[str]:
        found = translator.translate(texts, test.source, test.target, SearchConfig(beam_size=beam))
        return [translation.text for translation in found]

    return translate, translator.dtype


def _load_ctranslate2(setting: Setting, checkpoint: str | None, exported: str, test: TestSet) -> tuple[Translate, str]:
    import ctranslate2

    from model.vocabulary import Vocabulary

    vocabulary = Vocabulary.load(Path(exported) / "vocabulary.model")
    engine = ctranslate2.Translator(
        exported,
        compute_type=setting.dtype,
        inter_threads=setting.inter_threads,
        intra_threads=setting.threads // setting.inter_threads,
    )
    never = [[vocabulary.piece(i)] for i in vocabulary.unwritable]

    def translate(texts: Sequence[str], beam: int) -> list[str]:
        sources = [[vocabulary.piece(i) for i in vocabulary.source_ids(text, test.target)] for text in texts]
        results = engine.translate_batch(
            sources,
            beam_size=beam,
            length_penalty=1,
            max_batch_size=64 if beam == 1 else 32,  # sorted by length, as its manual advises
            max_decoding_length=256,
            suppress_sequences=never,
        )
        return [vocabulary.decode([vocabulary.id(piece) for piece in result.hypotheses[0]]) for result in results]

    return translate, setting.dtype


def _load_transformers(setting: Setting, checkpoint: str | None, exported: str, test: TestSet) -> tuple[Translate, str]:
    import torch

    from model.translator import Translator
    from training.hugging_face import HuggingFace

    torch.set_num_threads(setting.threads)
    translator = Translator.load(checkpoint, dtype=setting.dtype)
    vocabulary, engine = translator.vocabulary, HuggingFace(translator.model, translator.vocabulary.unwritable)

    def translate(texts: Sequence[str], beam: int) -> list[str]:
        sources = [vocabulary.source_ids(text, test.target) for text in texts]
        order = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        found = [""] * len(sources)
        for start in range(0, len(order), 64):
            chosen = order[start : start + 64]
            for i, ids in zip(chosen, engine.translate([sources[i] for i in chosen], beam), strict=True):
                found[i] = vocabulary.decode(ids)
        return found

    return translate, setting.dtype


LOADERS = {"ctranslate2": _load_ctranslate2, "transformers": _load_transformers}


def draw(result: dict[str, Any], path: Path) -> None:
    """A bar chart of sentences a second, one group a setting."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in result["rows"] if (row["engine"], row["dtype"]) != ("nmt", "float32")]
    groups = sorted({(row["batch"], row["beam"], row["threads"]) for row in rows})
    engines = sorted({row["engine"] for row in rows}, key=["nmt", *LOADERS].index)
    figure, axes = plt.subplots(figsize=(9, 4.5), layout="constrained")
    for k, engine in enumerate(engines):
        speeds = [
            next(
                (
                    row["sentences"] / row["seconds"]
                    for row in rows
                    if (row["batch"], row["beam"], row["threads"]) == group and row["engine"] == engine
                ),
                0.0,
            )
            for group in groups
        ]
        places = [i + k * 0.8 / len(engines) for i in range(len(groups))]
        bars = axes.bar(places, speeds, 0.8 / len(engines), label=engine)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7)
    axes.set_xticks(
        [i + 0.4 - 0.4 / len(engines) for i in range(len(groups))],
        [f"batch {batch}\nbeam {beam}\n{threads} thread{'s' * (threads > 1)}" for batch, beam, threads in groups],
        fontsize=8,
    )
    axes.set_ylabel("sentences a second")
    axes.set_title(f"{result['test']}, {result['machine']['processor']}, {result['machine']['cores']} cores")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
