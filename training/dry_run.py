"""What a recipe will take, before it is run: steps, tokens, parameters, memory, hours.

Computed, not measured, except for activations and kernels, which one small batch through the real model tells. FLOPs
are counted after Kaplan et al. 2020, appendix B: a product costs 2 a weight and token forwards and 4 backwards,
attention 4 x length x width a token forwards. A step takes FLOPs / (peak x utilisation), but no less than it takes to
start its kernels one by one from Python; then the optimiser reads and writes its state at the speed of the memory, and
between processes the gradients go round a ring. Data that comes late, validation and checkpoints are not in it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sacrebleu.dataset import DATASETS
from torch.utils._python_dispatch import TorchDispatchMode

from model.config import ModelConfig
from model.errors import UserError
from model.transformer import Transformer, build
from model.vocabulary import EOS, Vocabulary
from training.loss import GPU_CHUNK
from training.readers import local_files
from training.recipe import Recipe

LENGTH = 32  # tokens of a sentence: what attention and padding are computed for
FILLED = 0.85  # of a batch's target places hold a token: sides differ in length, batches are padded
UTILISATION = 0.2  # of the peak: an assumption; small models and batches reach little of it
LAUNCH = 10e-6  # seconds from one kernel to the next, started by Python; backwards there are twice as many as forwards
OPTIMISER_BYTES = 40  # a weight: gradient, weight, two moments and the average are read, all but the first written


@dataclass(frozen=True)
class Gpu:
    """From the data sheets: dense 16-bit FLOP/s, bytes/s of the memory, and of the link to the others."""

    peak: float
    memory: float
    link: float


GPUS = {
    "RTX 4090": Gpu(165e12, 1.0e12, 25e9),
    "A100": Gpu(312e12, 1.55e12, 300e9),
    "H100 SXM": Gpu(989e12, 3.35e12, 450e9),
}


@dataclass(frozen=True)
class Plan:
    recipe: str
    processes: int
    parameters: int
    steps: int
    batch: int  # padded tokens a step, of the longer side, all processes
    target_tokens: float  # of the whole run, at most
    flops: float  # of the whole run
    kernels: int  # a step, forwards
    state_bytes: int  # a process: weights, gradients, optimiser, moving average
    activation_bytes: int  # a process, one batch
    corpora: tuple[str, ...]

    def hours(self, name: str) -> float:
        gpu, others = GPUS[name], self.processes - 1
        products = self.flops / self.steps / (gpu.peak * UTILISATION * self.processes)
        step = max(products, 3 * self.kernels * LAUNCH)
        step += OPTIMISER_BYTES * self.parameters / gpu.memory
        step += 2 * 4 * self.parameters * others / self.processes / gpu.link
        return self.steps * step / 3600

    def __str__(self) -> str:
        gib = 2**30
        plural = "es" if self.processes > 1 else ""
        lines = [
            f"{self.recipe}, {self.processes} process{plural}; nothing was trained",
            f"corpora     {'; '.join(self.corpora)}",
            f"parameters  {self.parameters:,}",
            f"steps       {self.steps:,} of {self.batch:,} tokens, padding included",
            f"tokens      {self.target_tokens / 1e6:,.0f} M target tokens at most ({100 * FILLED:.0f} % of the places)",
            f"memory      {(self.state_bytes + self.activation_bytes) / gib:.1f} GiB a process: "
            f"{self.state_bytes / gib:.2f} weights, gradients, optimiser, average; {self.activation_bytes / gib:.2f} "
            "activations",
            f"work        {self.flops:.2e} FLOPs",
        ]
        for name, gpu in GPUS.items():
            hours = self.hours(name)
            lines.append(
                f"hours       {hours:,.1f} on {self.processes} {name} (products at {100 * UTILISATION:.0f} % of "
                f"{gpu.peak / 1e12:.0f} TFLOP/s, {3.6e6 * hours / self.steps:.0f} ms a step)"
            )
        lines.append("hours and memory are computed (training/dry_run.py says how), not measured")
        return "\n".join(lines)


def plan(recipe: Recipe, processes: int = 1) -> Plan:
    """Look at everything that the recipe names and compute what it takes. UserError for what is missing."""
    corpora = []
    for corpus in recipe.corpora:
        files = local_files(corpus, recipe.root)
        size = sum(file.stat().st_size for file in files) / 2**20
        remote = f"hub, {'streamed' if corpus.streaming else 'downloaded'}, not contacted"
        corpora.append(f"{corpus.title} ({f'{size:,.1f} MiB' if files else remote})")
    for test in [config.test for config in recipe.validation] + [config.test for config in recipe.tests]:
        if not Path(recipe.resolve(test)).is_file() and test not in DATASETS:
            raise UserError(f"test set '{test}' is neither a file nor a name that sacreBLEU knows")
    given = recipe.given_vocabulary
    size = len(Vocabulary.load(given)) if given else recipe.vocabulary.size
    config = dataclasses.replace(recipe.model, vocab_size=size)
    training = recipe.training
    batch = training.batch_tokens * training.accumulate * processes
    passes = 2 if training.r_drop else 1
    model = build(config)
    parameters = sum(weight.numel() for weight in model.parameters())
    places = float(training.max_steps) * batch
    each, once, kernels = activations(model, training.bf16)
    # Logits, probabilities and their gradients, a chunk at a time; of both draws, their divergence
    logits = (11 if training.r_drop else 3) * 4 * min(GPU_CHUNK, training.batch_tokens) * size
    return Plan(
        recipe=recipe.name,
        processes=processes,
        parameters=parameters,
        steps=training.max_steps,
        batch=batch,
        target_tokens=places * FILLED,
        kernels=kernels * training.accumulate,
        flops=3 * passes * places * forward_flops(config),
        state_bytes=parameters * 4 * 5,  # float32: weights, gradients, two moments, average
        activation_bytes=int(passes * training.batch_tokens * each + once) + logits,
        corpora=tuple(corpora),
    )


def forward_flops(config: ModelConfig) -> float:
    """Of one source and one target place."""
    d = config.d_model
    attention = 2 * 4 * d * d + 4 * LENGTH * d  # query, key, value and output products; scores and their sum
    feed_forward = 2 * 2 * d * config.d_ff * (config.experts_per_token if config.experts > 1 else 1)
    if config.architecture == "decoder-only":  # both places pass through the one stack
        return float(2 * config.decoder_layers * (attention + feed_forward) + 2 * d * config.vocab_size)
    encoder = config.encoder_layers * (attention + feed_forward)
    decoder = config.decoder_layers * (2 * attention + feed_forward)
    return float(encoder + decoder + 2 * d * config.vocab_size)


def activations(model: Transformer, bf16: bool) -> tuple[float, float, int]:
    """What is kept for the gradient: bytes for each source and target place, and once (16-bit copies of weights); and
    the number of kernels. Counted while two and then four sentences pass through the model.
    """
    length = min(LENGTH, model.config.max_length)
    (two, kernels), (four, _) = (_count(model, torch.full((rows, length), EOS), bf16) for rows in (2, 4))
    each = (four - two) / (2 * length)
    return each, two - 2 * length * each, kernels


def _count(model: Transformer, ids: torch.Tensor, bf16: bool) -> tuple[int, int]:
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        pointer = tensor.untyped_storage().data_ptr()
        if pointer not in weights:
            kept[pointer] = max(kept.get(pointer, 0), tensor.nbytes)  # views of one tensor count once
        return tensor

    with (
        _Kernels() as kernels,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=bf16),
    ):
        hidden = model.train()(ids, ids)  # holds the graph, so that no memory is used twice
    del hidden
    return sum(kept.values()), kernels.count


class _Kernels(TorchDispatchMode):
    """Counts the operations that compute something."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += not function.is_view
        return function(*args, **(kwargs or {}))
