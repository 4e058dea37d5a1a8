"""The folder of a run: its vocabulary, its checkpoints, and what it records of itself."""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from model import checkpoint
from model.config import ModelConfig
from model.vocabulary import Vocabulary
from training.corpus import LoadedCorpus, StreamedCorpus
from training.recipe import Recipe
from training.state import LOG, average_weights, records, write_atomically


@dataclass
class Progress:
    """How far a run is: what a resumed one goes on from."""

    step: int = 0
    warm_from: int = 0  # the step that its initial weights were taken at
    tokens: int = 0  # of targets
    losses: float = 0.0  # summed over
    seen: int = 0  # target tokens since the last line of the log
    best: float = -1.0  # BLEU; below 0 before the first
    stale: int = 0  # validations since the best
    snapshots: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"step {self.step:,}, {self.tokens / 1e6:.2f} M target tokens"


def best_progress(log: Path) -> Progress:
    """Where the best checkpoint of a run stands whose state is lost, as its log.jsonl has it."""
    logged = records(log)
    if not logged:
        return Progress()
    best = max([record for record in logged if "bleu" in record] or logged[-1:], key=lambda one: one.get("bleu", 0.0))
    return Progress(best["step"], warm_from=best["step"], tokens=best["tokens"], best=best.get("bleu", -1.0))


class RunFolder:
    """What the main process writes into ``path`` as the run makes progress."""

    def __init__(self, path: Path, title: str, config: ModelConfig, vocabulary: Vocabulary, progress: Progress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._path, self._title = path, title
        self._config, self._vocabulary, self._progress = config, vocabulary, progress
        self._writer = SummaryWriter(str(path / "tensorboard"), purge_step=progress.step + 1)

    def record(self, values: dict[str, float]) -> None:
        """A line of log.jsonl, and TensorBoard's scalars."""
        step, tokens = self._progress.step, self._progress.tokens
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        line = {"step": step, "tokens": tokens, "time": round(time.time(), 1)} | values
        with (self._path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def save(self, name: str, weights: dict[str, Tensor]) -> None:
        """A checkpoint that `nmt translate --checkpoint` takes."""
        step, tokens = self._progress.step, self._progress.tokens
        card = f"# {self._title}\n\nTrained by `nmt train`: step {step}, {tokens:,} target tokens.\n"
        checkpoint.save(self._path / name, self._config, weights, self._vocabulary, card)

    def snapshot(self, weights: dict[str, Tensor], kept: int) -> None:
        """Keep the last few raw weights; their mean is the averaged checkpoint of Vaswani et al. 2017, 6.1."""
        name, snapshots = f"snapshot-{self._progress.step}", self._progress.snapshots
        self.save(name, weights)
        snapshots.append(name)
        while len(snapshots) > kept:
            shutil.rmtree(self._path / snapshots.pop(0), ignore_errors=True)

    def finish(self, average: dict[str, Tensor], validated: bool) -> None:
        """What is there once the run is over. Where nothing was ``validated``, the last weights are the best."""
        self.save("last", average)
        if not validated:
            self.save("best", average)
        if snapshots := self._progress.snapshots:
            self.save("averaged", average_weights([path for name in snapshots if (path := self._path / name).exists()]))
        from training.curves import draw_curves

        draw_curves(self._path / LOG, self._path / "curves.png")


def run_vocabulary(
    recipe: Recipe, corpora: Sequence[LoadedCorpus | StreamedCorpus], path: Path, log: Callable[[str], None]
) -> Vocabulary:
    """The vocabulary of the run in the folder ``path``: the one there, else the recipe's, else that of its initial
    checkpoint, else a new one of its ``corpora``."""
    path /= "vocabulary.model"
    if path.exists():
        return Vocabulary.load(path)
    if given := recipe.given_vocabulary:
        vocabulary = Vocabulary.load(given)
    else:
        languages = sorted({code for corpus in recipe.corpora for code in (corpus.source, corpus.target)})
        log(f"training a vocabulary of {recipe.vocabulary.size} pieces for {', '.join(languages)}")
        lines = _sample(corpora, recipe.vocabulary.sentences)
        vocabulary = Vocabulary.train(lines, recipe.vocabulary.size, languages)
    write_atomically(path, vocabulary.model)
    return vocabulary


def _sample(corpora: Sequence[LoadedCorpus | StreamedCorpus], pairs: int) -> Iterator[str]:
    """Both sides of some pairs, each corpus in proportion to its weight but no pair twice."""
    total = sum(corpus.weight for corpus in corpora)
    for corpus in corpora:
        count = int(pairs * corpus.weight / total)
        if isinstance(corpus, StreamedCorpus):
            for pair in itertools.islice(corpus.iterate(), count):
                yield from pair
            continue
        count = min(len(corpus), count)
        for i in range(0, count, 1000):
            for pair in corpus.take([j * len(corpus) // count for j in range(i, min(i + 1000, count))]):
                yield from pair
