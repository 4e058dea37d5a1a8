"""Training from a recipe: one process or many, killed at any moment and resumed exactly.

Everything that a run needs is in its folder:
  vocabulary.model, corpora/        what it trains on
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
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from model import checkpoint
from model.errors import UserError
from model.transformer import EncoderDecoder, Transformer, build
from model.translator import Translator
from model.vocabulary import SEPARATOR
from training.account import Account
from training.batches import Batch, Mixture
from training.corpus import StreamedCorpus, load_corpora
from training.evaluate import quick_bleu, scorers
from training.folder import Progress, RunFolder, best_progress, run_vocabulary
from training.loss import LossModel
from training.recipe import Recipe
from training.schedule import learning_rate
from training.state import LOG, STATE, forget_records_after, grown, load_state, save_state
from training.testset import check_names, load_test_set

MAX_HELPERS = 8  # each prepares 370,000 target tokens a second


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
        state, best = out / STATE, out / "best"
        if not resume and (state.exists() or best.exists()):
            raise UserError(f"{out} holds a run already; add --resume to go on with it, or choose another --out")
        self.tests = [load_test_set(recipe.resolve(v.test), v.source, v.target, v.turned) for v in recipe.validation]
        check_names(self.tests)
        out.mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():  # the others find the cleaned corpora on disk
            self.corpora, account = load_corpora(recipe.corpora, recipe.cleaning, recipe.root, out / "corpora")
        self.log(str(account))
        streams = [isinstance(corpus, StreamedCorpus) for corpus in self.corpora]
        self.streamed = Account(list(itertools.compress(account.corpora, streams)))  # grow as they are read
        with self.accelerator.main_process_first():
            self.vocabulary = run_vocabulary(recipe, self.corpora, out, self.log)
        for one in self.streamed.corpora:  # what the vocabulary took does not count
            one.kept, one.dropped = 0, {}
        for test in self.tests:  # what the first validation will need
            self.vocabulary.tag(test.source), self.vocabulary.tag(test.target)
            scorers(["bleu"], test.target)
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
        self.progress = Progress()
        self.stop = self.interrupted = False
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=0.0,
            betas=(0.9, 0.98),
            eps=1e-9,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        if state.exists():
            self._load_state()
        elif best.exists():  # the state is lost
            self._warm_start(best)
            self.progress = best_progress(out / LOG)
        elif self.config.initial:
            self._warm_start(recipe.resolve(self.config.initial))
            self.progress.step = self.progress.warm_from = self.config.initial_step
        if self.main:
            forget_records_after(out / LOG, self.progress.step)
        self.loss_model, self.optimizer = self.accelerator.prepare(
            LossModel(self.model, self.config.label_smoothing, self.config.r_drop), self.optimizer
        )
        self.folder = RunFolder(out, recipe.name, config, self.vocabulary, self.progress) if self.main else None

    def log(self, line: str) -> None:
        if self.main:
            print(line, file=sys.stderr, flush=True)

    def run(self) -> Path:
        """Train until a limit of the recipe, early stopping or SIGTERM; returns the best checkpoint's folder."""
        before = [(number, signal.signal(number, self._ask_to_stop)) for number in (signal.SIGTERM, signal.SIGINT)]
        try:
            self._run()
        finally:
            for number, handler in before:
                signal.signal(number, handler)
        return self.out / "best"

    def _run(self) -> None:
        from tqdm import tqdm

        progress = self.progress
        self.log(str(progress))
        stop = self._agree(self.stop or self._is_stale())
        started = saved = shown = window = time.monotonic()
        first, counted = progress.step, progress.tokens
        batches = self.batches()
        bar = tqdm(
            total=self.config.max_steps,
            initial=progress.step,
            unit="step",
            disable=not self.main or not sys.stderr.isatty(),
        )
        while progress.step < self.config.max_steps and not stop:
            loss, tokens = self.update([next(batches) for _ in range(self.config.accumulate)])
            progress.losses += loss
            progress.seen += tokens
            bar.update()
            now = time.monotonic()
            if progress.step % self.config.log_steps == 0:
                speed, mean = (progress.tokens - counted) / (now - window), progress.losses / progress.seen
                left = (self.config.max_steps - progress.step) * (now - started) / max(1, progress.step - first)
                bar.set_postfix_str(f"loss {mean:.3f}, {speed:,.0f} tokens/s")
                self._record({"loss": mean, "tokens_per_second": speed, "rate": self._rate()})
                if bar.disable and now - shown > 60:
                    self.log(f"{progress}, loss {mean:.3f}, {speed:,.0f} tokens/s, {left / 3600:.1f} h left")
                    shown = now
                window, counted, progress.losses, progress.seen = now, progress.tokens, 0.0, 0
            if progress.step % self.config.validate_steps == 0:
                self._validate()
                window, counted = time.monotonic(), progress.tokens
                saved = window
            elif now - saved > self.config.save_minutes * 60:
                self._save_state()
                saved = time.monotonic()
            stop = self._agree(self.stop or (now - started) / 3600 > self.config.max_hours)
        bar.close()
        self._save_state()
        validated = bool(self.tests) and progress.best >= 0.0
        if self.folder:
            self.folder.finish(self.average, validated)
        self._log_left_out()
        best = f"best BLEU {progress.best:.2f}" if validated else "never validated, its last weights are"
        self.log(f"stopped: {progress}; {best} in {self.out / 'best'}")
        self.accelerator.end_training()

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
        self.progress.step += 1
        torch.manual_seed(hash((self.config.seed, self.progress.step, self.accelerator.process_index)) % 2**63)
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
        self.progress.tokens += int(totals[0])
        return float(totals[1]), int(totals[0])

    def _rate(self) -> float:
        c, step, warm_from = self.config, self.progress.step, self.progress.warm_from
        return learning_rate(step, c.learning_rate, c.warmup_steps, warm_from, c.max_steps, c.decay_steps)

    @torch.no_grad()
    def _move_average(self) -> None:
        """Exponential moving average of the weights; starts fast, so that the random start is soon forgotten."""
        seen = self.progress.step - self.progress.warm_from
        keep = min(self.config.ema_decay, (1 + seen) / (10 + seen))
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
        progress = self.progress
        if self.folder:
            began = time.monotonic()
            translator = Translator(self._averaged_model(), self.vocabulary, self.out.name)
            scores = {}
            for validation, test in zip(self.recipe.validation, self.tests, strict=True):
                sources, references = test.sources[: validation.limit], test.references[: validation.limit]
                found = translator.translate(sources, test.source, test.target, validation.search)
                bleu = quick_bleu([t.text for t in found], references, test.target)
                scores[f"{test.name}.{test.source}-{test.target}"] = bleu
            mean = sum(scores.values()) / len(scores) if scores else -1.0
            if scores:
                self._record({f"bleu/{name}": score for name, score in scores.items()} | {"bleu": mean})
                listed = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
                self.log(f"{progress}: BLEU {listed} ({time.monotonic() - began:.0f} s)")
            self._log_left_out()
            better = mean > progress.best
            progress.stale = 0 if better else progress.stale + 1
            progress.best = max(progress.best, mean)
            if better or not scores:
                self.folder.save("best", self.average)
            if self.config.average_checkpoints:
                self.folder.snapshot(self.model.state_dict(), self.config.average_checkpoints)
            self.stop = self.stop or self._is_stale()
        self.accelerator.wait_for_everyone()
        self._save_state()

    def _is_stale(self) -> bool:
        return bool(self.config.patience and self.progress.stale >= self.config.patience)

    def _log_left_out(self) -> None:
        if self.streamed.corpora:
            self.log(f"streamed since the start, repetitions included:\n{self.streamed}")
        if self.mixture.too_long:
            counts = ", ".join(f"{count:,} of {name}" for name, count in self.mixture.too_long.items())
            self.log(f"left out since the start, longer than max_tokens = {self.config.max_tokens}: {counts}")

    def _save_state(self) -> None:
        if not self.main:
            return
        progress = dataclasses.asdict(self.progress) | {"position": self.mixture.state()}
        save_state(self.out / STATE, self.model, self.average, self.optimizer, progress)

    def _load_state(self) -> None:
        self.average, progress = load_state(self.out / STATE, self.model, self.optimizer, self.accelerator.device)
        self.mixture.load_state(progress.pop("position"))
        self.progress = Progress(**progress)

    def _warm_start(self, path: str | Path) -> None:
        """Only weights are left of an earlier run: take them and warm the optimiser up again."""
        loaded = checkpoint.load(path)
        if loaded.vocabulary.model != self.vocabulary.model:
            raise UserError(
                f"{path} has another vocabulary than this run; leave out vocabulary.path, or choose another --out"
            )
        try:
            self.model.load_state_dict(grown(loaded, self.model))
        except RuntimeError as error:
            raise UserError(f"{path} has another architecture: {' '.join(str(error).split())[:200]}") from None
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.log(f"weights from {path}")

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

    def _record(self, values: dict[str, float]) -> None:
        if self.folder:
            self.folder.record(values)


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
