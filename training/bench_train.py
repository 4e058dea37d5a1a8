"""Benchmark: our training step against the plain PyTorch loop, end to end on the corpora of a recipe.

Both do everything from text to updated weights: draw pairs, tokenise, batch, forward, backward, update. Each lives in
a process of its own and they take turns, so that one run on one machine compares them.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UserError
from model.machine import processor
from training.recipe import Recipe
from training.worker import Worker

if TYPE_CHECKING:
    from torch import nn

ENGINES = ("nmt", "plain")
ROUNDS, SECONDS, WARM_UP = 5, 30.0, 60.0  # turns an engine, and how long each; the first one is not counted
QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARM_UP = 3, 5.0, 5.0

Step = Callable[[], int]  # one update; returns its target tokens without padding


def bench_train(recipe: Recipe, corpora: Path | None, quick: bool, log: Callable[[str], None]) -> dict[str, Any]:
    """The object that ``nmt bench train --json`` prints. ``corpora``: where cleaned corpora are kept, made there if
    need be; None cleans them anew."""
    rounds, seconds, warm_up = (QUICK_ROUNDS, QUICK_SECONDS, QUICK_WARM_UP) if quick else (ROUNDS, SECONDS, WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        if corpora is not None:
            corpora.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "corpora").symlink_to(corpora.resolve())
        workers: dict[str, _Worker] = {}
        try:
            for engine in ENGINES:  # one after the other: the second finds corpora and vocabulary of the first
                workers[engine] = _Worker(engine, recipe, Path(folder))
            speeds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            for round in range(1 + rounds):
                for engine, worker in workers.items():
                    speed = worker.run(seconds if round else warm_up)
                    log(f"{f'round {round}' if round else 'warm-up'}, {engine:5}: {speed:8,.0f} target tokens/s")
                    if round:
                        speeds[engine].append(speed)
        finally:
            for worker in workers.values():
                worker.close()
        parameters = workers["nmt"].parameters, workers["plain"].parameters
    median = {engine: statistics.median(found) for engine, found in speeds.items()}
    return {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "threads": workers["nmt"].threads},
        "recipe": recipe.name,
        "corpora": [config.title for config in recipe.corpora],
        "model": dataclasses.asdict(recipe.model),
        "batch_tokens": recipe.training.batch_tokens,
        "seconds_a_round": seconds,
        "engines": [
            {
                "engine": engine,
                "parameters": count,
                "tokens_per_second": median[engine],
                "rounds": speeds[engine],
            }
            for engine, count in zip(ENGINES, parameters, strict=True)
        ],
        "ratio": median["nmt"] / median["plain"],
    }


class _Worker(Worker):
    def __init__(self, engine: str, recipe: Recipe, folder: Path) -> None:
        super().__init__(engine, _serve, engine, recipe, folder)
        self.parameters, self.threads = self.answer()

    def run(self, seconds: float) -> float:
        """Target tokens a second."""
        return float(self.ask(seconds))


def _serve(pipe: Connection, engine: str, recipe: Recipe, folder: Path) -> None:
    try:
        import torch

        step, model = (_ours if engine == "nmt" else _plain)(recipe, folder)
        pipe.send((sum(weight.numel() for weight in model.parameters()), torch.get_num_threads()))
        while (seconds := pipe.recv()) is not None:
            start, tokens = time.perf_counter(), 0
            while (taken := time.perf_counter() - start) < seconds or not tokens:
                tokens += step()
            pipe.send(tokens / taken)
    except Exception as error:
        pipe.send(error if isinstance(error, UserError) else RuntimeError(f"{engine}: {error!r}"))


def _ours(recipe: Recipe, folder: Path) -> tuple[Step, nn.Module]:
    """The trainer itself; it leaves the cleaned corpora and the vocabulary in the folder."""
    from training.trainer import Trainer

    trainer = Trainer(dataclasses.replace(recipe, validation=()), folder, resume=False)
    batches = trainer.batches()

    return lambda: trainer.update([next(batches) for _ in range(recipe.training.accumulate)])[1], trainer.model


def _plain(recipe: Recipe, folder: Path) -> tuple[Step, nn.Module]:
    from model.vocabulary import Vocabulary
    from training.corpus import load_corpora
    from training.plain import PlainLoop

    corpora, _ = load_corpora(recipe.corpora, recipe.cleaning, recipe.root, folder / "corpora")
    loop = PlainLoop(recipe, corpora, Vocabulary.load(folder / "vocabulary.model"))
    return loop.step, loop.model
