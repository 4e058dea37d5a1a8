"""Training from a recipe: one process or many, killed at any moment and resumed exactly.

Everything that a run needs is in its folder:
  vocabulary.model, recipe.json     what it trains on
  state.safetensors                 weights, moving average, optimiser and position; replaced atomically
  best/, last/, averaged/           checkpoints that `nmt translate --checkpoint` takes
  log.jsonl, tensorboard/, curves.png
Random draws of a step come from (seed, step, process), so that no generator needs saving.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import importlib.util
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model import checkpoint
from model.errors import UserError
from model.transformer import EncoderDecoder, Packing, Transformer, build
from model.translator import Translator
from model.vocabulary import PAD, SEPARATOR, Vocabulary
from training.batches import Batch, Mixture
from training.corpus import StreamedCorpus, load_corpora
from training.evaluate import quick_bleu
from training.loss import smoothed_cross_entropy, symmetric_divergence
from training.recipe import Recipe
from training.schedule import learning_rate
from training.state import average_weights, forget_records_after, grown, load_state, save_state, write_atomically
from training.testset import load_test_set

MAX_HELPERS = 8  # each prepares 370,000 target tokens a second


class LossModel(nn.Module):
    """Model and loss in one forward, so that a data-parallel wrapper sees every use of the weights."""

    def __init__(self, model: Transformer, smoothing: float, r_drop: float = 0.0) -> None:
        super().__init__()
        self.model, self.smoothing, self.r_drop = model, smoothing, r_drop

    def forward(
        self, source: Tensor, target_input: Tensor, target: Tensor, packing: Packing | None = None
    ) -> tuple[Tensor, Tensor]:
        """Summed loss and summed NLL. With R-Drop each sentence is seen twice: the loss is the mean of both, plus
        r_drop / 4 times their divergence (half of the paper's equation 4, whose terms are sums of both)."""
        if self.r_drop:
            source, target_input, target = (torch.cat((t, t)) for t in (source, target_input, target))
            packing = packing and packing.each(lambda t: torch.cat((t, t)))
        hidden = self.model(source, target_input, packing)
        if torch.is_autocast_enabled(hidden.device.type):  # on a GPU the last norm gives float32
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        weight = self.model.output.weight
        loss, nll = smoothed_cross_entropy(hidden, weight, target, self.smoothing)
        if (auxiliary := self.model.auxiliary_loss()) is not None:  # a token's; the loss is a sum over tokens
            loss = loss + auxiliary * (target != PAD).sum()
        if not self.r_drop:
            return loss, nll
        first, second = (half[target[: len(half)] != PAD] for half in hidden.chunk(2))
        return loss / 2 + self.r_drop / 4 * symmetric_divergence(first, second, weight), nll / 2


class Trainer:
    """One training run in the folder ``out``. ``log`` gets one line at a time, from the main process only."""

    def __init__(self, recipe: Recipe, out: Path, resume: bool) -> None:
        from accelerate import Accelerator  # slow to import

        # oneDNN keeps a kernel for each shape; the default 1,024 are fewer than a run has
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")
        keep_freed_memory()
        self.recipe, self.config, self.out = recipe, recipe.training, out
        # of torchrun's processes on CPUs each would train by itself, if Accelerate were not told
        cpu = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="bf16" if self.config.bf16 else "no")
        self.main = self.accelerator.is_main_process
        if (out / "state.safetensors").exists() and not resume:
            raise UserError(f"{out} holds a run already; add --resume to go on with it, or choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():  # the others find the cleaned corpora on disk
            self.corpora, account = load_corpora(recipe.corpora, recipe.cleaning, recipe.root, out / "corpora")
        self.log(str(account))
        with self.accelerator.main_process_first():
            self.vocabulary = self._vocabulary()
        config = dataclasses.replace(
            recipe.model, vocab_size=len(self.vocabulary), separator=self.vocabulary.id(SEPARATOR)
        )
        torch.manual_seed(self.config.seed)
        self.model = build(config).to(self.accelerator.device)
        # experts take another number of tokens each time
        if self.config.pack and config.experts == 1 and self.accelerator.device.type == "cuda":
            self._compile_layers()
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.mixture = Mixture(
            self.corpora,
            self.vocabulary,
            self.config.batch_tokens,
            self.config.max_tokens,
            self.config.seed,
            self.config.bpe_dropout,
            recipe.augmentation,
            recipe.model.formality,
            self.config.pack,
            self._helpers(),
        )
        self.step, self.warm_from, self.tokens, self.best, self.stale = 0, 0, 0, -1.0, 0
        self.snapshots: list[str] = []
        self.stop = self.interrupted = False
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=0.0,
            betas=(0.9, 0.98),
            eps=1e-9,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        if (out / "state.safetensors").exists():
            self._load_state()
        elif self.config.initial:
            self._warm_start(self.config.initial)
        self.loss_model, self.optimizer = self.accelerator.prepare(
            LossModel(self.model, self.config.label_smoothing, self.config.r_drop), self.optimizer
        )
        self.tests = [load_test_set(str(recipe.resolve(v.test)), v.source, v.target) for v in recipe.validation]
        self.writer = self._writer()

    def log(self, line: str) -> None:
        if self.main:
            print(line, file=sys.stderr, flush=True)

    def run(self) -> Path:
        """Train until a limit of the recipe, early stopping or SIGTERM; returns the best checkpoint's folder."""
        from tqdm import tqdm

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        self.log(self._where())
        started = saved = shown = time.monotonic()
        first, window, losses, seen = self.step, time.monotonic(), 0.0, 0
        batches = self.batches()
        bar = tqdm(
            total=self.config.max_steps,
            initial=self.step,
            unit="step",
            disable=not self.main or not sys.stderr.isatty(),
        )
        while self.step < self.config.max_steps and not self.stop:
            loss, tokens = self.update([next(batches) for _ in range(self.config.accumulate)])
            losses, seen = losses + loss, seen + tokens
            bar.update()
            now = time.monotonic()
            if self.step % self.config.log_steps == 0:
                speed = seen / (now - window)
                left = (self.config.max_steps - self.step) * (now - started) / max(1, self.step - first)
                bar.set_postfix_str(f"loss {losses / seen:.3f}, {speed:,.0f} tokens/s")
                self._record({"loss": losses / seen, "tokens_per_second": speed, "rate": self._rate()})
                if bar.disable and now - shown > 60:
                    self.log(
                        f"{self._where()}, loss {losses / seen:.3f}, {speed:,.0f} tokens/s, {left / 3600:.1f} h left"
                    )
                    shown = now
                window, losses, seen = now, 0.0, 0
            if self.step % self.config.validate_steps == 0:
                self._validate()
                window = saved = time.monotonic()
            elif now - saved > self.config.save_minutes * 60:
                self._save_state()
                saved = time.monotonic()
            self.stop = self._agree(self.stop or (now - started) / 3600 > self.config.max_hours)
        bar.close()
        self._save_state()
        if self.main:
            self._finish()
        self.log(f"stopped: {self._where()}; best BLEU {self.best:.2f} in {self.out / 'best'}")
        self.accelerator.end_training()
        return self.out / "best"

    # One update ------------------------------------------------------------------------------------------------

    def batches(self) -> Iterator[Batch]:
        """This process's batches from where the run stands, without end."""
        return self._share(iter(self.mixture))

    def _share(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Each process takes every n-th batch of the same stream."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        while True:
            group = [next(batches) for _ in range(world)]
            yield group[rank]

    def update(self, batches: list[Batch]) -> tuple[float, int]:
        """One optimiser step over batches of all processes; returns the summed NLL and the number of tokens."""
        device = self.accelerator.device
        self.step += 1
        torch.manual_seed(hash((self.config.seed, self.step, self.accelerator.process_index)) % 2**63)
        self.loss_model.train()
        count = torch.tensor([float(sum(batch.tokens for batch in batches)), 0.0], device=device)
        total = self.accelerator.reduce(count, "sum")[0]
        for i, batch in enumerate(batches):
            tensors = [t.to(device, non_blocking=True) for t in (batch.source, batch.target_input, batch.target)]
            packing = batch.packing and batch.packing.each(lambda t: t.to(device))
            # Gradients travel between processes once, with the last batch
            last = i + 1 == len(batches)
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.loss_model):
                loss, nll = self.loss_model(*tensors, packing)
                self.accelerator.backward(loss * self.accelerator.num_processes / total)
            count[1] += nll
        self.accelerator.clip_grad_norm_(self.loss_model.parameters(), self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._move_average()
        totals = self.accelerator.reduce(count, "sum")
        self.tokens += int(totals[0])
        return float(totals[1]), int(totals[0])

    def _rate(self) -> float:
        c = self.config
        return learning_rate(self.step, c.learning_rate, c.warmup_steps, self.warm_from, c.max_steps, c.decay_steps)

    @torch.no_grad()
    def _move_average(self) -> None:
        """Exponential moving average of the weights; starts fast, so that the random start is soon forgotten."""
        keep = min(self.config.ema_decay, (1 + self.step - self.warm_from) / (10 + self.step - self.warm_from))
        averages, weights = [], []
        for name, weight in self.model.state_dict().items():
            averages.append(self.average[name])
            weights.append(weight)
        torch._foreach_lerp_(averages, weights, 1.0 - keep)

    # Validation and saving ------------------------------------------------------------------------------------

    def _averaged_model(self) -> Transformer:
        model = build(self.model.config)
        model.load_state_dict(self.average)
        return model.to(self.accelerator.device).eval()

    def _validate(self) -> None:
        """sacreBLEU of real search output with the averaged weights; keeps the best, counts towards early stopping."""
        if self.main:
            began = time.monotonic()
            translator = Translator(self._averaged_model(), self.vocabulary, self.out.name)
            scores = {}
            for validation, test in zip(self.recipe.validation, self.tests, strict=True):
                sources, references = test.sources[: validation.limit], test.references[: validation.limit]
                found = translator.translate(sources, validation.source, validation.target, validation.search)
                scores[f"{test.name}.{validation.source}-{validation.target}"] = quick_bleu(
                    [t.text for t in found], references
                )
            mean = sum(scores.values()) / max(1, len(scores))
            self._record({f"bleu/{name}": score for name, score in scores.items()} | {"bleu": mean})
            listed = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
            self.log(f"{self._where()}: BLEU {listed} ({time.monotonic() - began:.0f} s)")
            if self.mixture.too_long:
                counts = ", ".join(f"{count:,} of {name}" for name, count in self.mixture.too_long.items())
                self.log(f"left out since the start, longer than max_tokens = {self.config.max_tokens}: {counts}")
            better = mean > self.best
            self.stale = 0 if better else self.stale + 1
            self.best = max(self.best, mean)
            if better or not scores:
                self._save_checkpoint("best", self.average)
            if self.config.average_checkpoints:
                self._snapshot()
            self.stop = self.stop or bool(self.config.patience and self.stale >= self.config.patience)
        self.accelerator.wait_for_everyone()
        self._save_state()

    def _save_checkpoint(self, name: str, weights: dict[str, Tensor]) -> None:
        card = f"# {self.recipe.name}\n\nTrained by `nmt train`: step {self.step}, {self.tokens:,} target tokens.\n"
        checkpoint.save(self.out / name, self.model.config, weights, self.vocabulary, card)

    def _snapshot(self) -> None:
        """Keep the last few raw weights; their mean is the averaged checkpoint of Vaswani et al. 2017, 6.1."""
        self._save_checkpoint(f"snapshot-{self.step}", self.model.state_dict())
        self.snapshots.append(f"snapshot-{self.step}")
        while len(self.snapshots) > self.config.average_checkpoints:
            shutil.rmtree(self.out / self.snapshots.pop(0), ignore_errors=True)

    def _finish(self) -> None:
        self._save_checkpoint("last", self.average)
        if not (self.out / "best").exists():
            self._save_checkpoint("best", self.average)
        if self.snapshots:
            self._save_checkpoint("averaged", average_weights([self.out / name for name in self.snapshots]))
        from training.curves import draw_curves

        draw_curves(self.out / "log.jsonl", self.out / "curves.png")

    def _save_state(self) -> None:
        if not self.main:
            return
        progress = {
            "step": self.step,
            "warm_from": self.warm_from,
            "tokens": self.tokens,
            "best": self.best,
            "stale": self.stale,
            "snapshots": self.snapshots,
            "position": self.mixture.state(),
        }
        save_state(self.out / "state.safetensors", self.model, self.average, self.optimizer, progress)

    def _load_state(self) -> None:
        path = self.out / "state.safetensors"
        self.average, progress = load_state(path, self.model, self.optimizer, self.accelerator.device)
        self.mixture.load_state(progress.pop("position"))
        if self.main:
            forget_records_after(self.out / "log.jsonl", progress["step"])
        for name, value in progress.items():
            setattr(self, name, value)

    def _warm_start(self, path: str) -> None:
        """Only weights are left of an earlier run: take them and warm the optimiser up again."""
        loaded = checkpoint.load(self.recipe.resolve(path))
        if loaded.vocabulary.model != self.vocabulary.model:
            raise UserError(f"{path} has another vocabulary than this run; set vocabulary.path to its vocabulary.model")
        try:
            self.model.load_state_dict(grown(loaded, self.model))
        except RuntimeError as error:
            raise UserError(f"{path} has another architecture: {' '.join(str(error).split())[:200]}") from None
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.step = self.warm_from = self.config.initial_step
        self.log(f"weights from {path}")

    def _vocabulary(self) -> Vocabulary:
        path = self.out / "vocabulary.model"
        if path.exists():
            return Vocabulary.load(path)
        if self.recipe.vocabulary.path:
            vocabulary = Vocabulary.load(self.recipe.resolve(self.recipe.vocabulary.path))
        else:
            languages = sorted({code for corpus in self.recipe.corpora for code in (corpus.source, corpus.target)})
            self.log(f"training a vocabulary of {self.recipe.vocabulary.size} pieces for {', '.join(languages)}")
            vocabulary = Vocabulary.train(self._vocabulary_lines(), self.recipe.vocabulary.size, languages)
        write_atomically(path, vocabulary.model)
        return vocabulary

    def _vocabulary_lines(self) -> Iterator[str]:
        """Both sides of a sample, each corpus in proportion to its weight but no pair twice."""
        total = sum(corpus.weight for corpus in self.corpora)
        for corpus in self.corpora:
            count = int(self.recipe.vocabulary.sentences * corpus.weight / total)
            if isinstance(corpus, StreamedCorpus):
                for pair in itertools.islice(corpus.iterate(), count):
                    yield from pair
                continue
            count = min(len(corpus), count)
            for i in range(0, count, 1000):
                for pair in corpus.take([j * len(corpus) // count for j in range(i, min(i + 1000, count))]):
                    yield from pair

    def _compile_layers(self) -> None:
        """Once for each kind of layer."""
        compilers = (os.environ.get("CC", ""), "gcc", "clang")  # where Triton looks
        if importlib.util.find_spec("triton") is None or not any(map(shutil.which, compilers)):
            self.log("the layers are not compiled, which costs half the speed: install Triton and a C compiler")
            return
        assert isinstance(self.model, EncoderDecoder)
        for layer in (*self.model.encoder_layers, *self.model.decoder_layers):
            layer.compile(dynamic=False)

    def _helpers(self) -> int:
        """Processes that prepare batches: a GPU is faster than the one here."""
        if self.accelerator.device.type != "cuda":
            return 0
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # of torchrun's processes
        return max(1, min(MAX_HELPERS, len(os.sched_getaffinity(0)) // here - 2))

    # Small things ---------------------------------------------------------------------------------------------

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        self.log("stopping after this step ...")
        self.stop = self.interrupted = True

    def _agree(self, stop: bool) -> bool:
        """All processes leave the loop together."""
        if self.accelerator.num_processes == 1:
            return stop
        flag = torch.tensor([float(stop)], device=self.accelerator.device)
        return bool(self.accelerator.reduce(flag, "sum")[0] > 0)

    def _where(self) -> str:
        return f"step {self.step:,}, {self.tokens / 1e6:.2f} M target tokens"

    def _writer(self) -> Any:
        if not self.main:
            return None
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self.out / "tensorboard"), purge_step=self.step + 1)

    def _record(self, values: dict[str, float]) -> None:
        if not self.main:
            return
        for name, value in values.items():
            self.writer.add_scalar(name, value, self.step)
        line = {"step": self.step, "tokens": self.tokens, "time": round(time.time(), 1)} | values
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def keep_freed_memory() -> None:
    """Every step frees and allocates the same large tensors: without this, glibc gives the pages back to the system
    and gets them again, zeroed, at 5 to 8 % of a step's time. Does nothing with another C library.
    """
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(mmap_threshold, 32 << 20)  # the most that it takes
        libc.mallopt(trim_threshold, (1 << 31) - 1)
        libc.mallopt(top_pad, 64 << 20)


def train(recipe: Recipe, out: Path, resume: bool = False) -> Path:
    """Run a recipe in the folder ``out``; returns the folder of the best checkpoint. UserError for bad input."""
    return Trainer(recipe, out, resume).run()
