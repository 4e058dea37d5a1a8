"""What the experts of a mixture do: which tokens they take, and what they cost."""

from __future__ import annotations

import os
import statistics
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from model.config import ModelConfig
from model.errors import UserError
from model.experts import MixtureOfExperts, choose
from model.machine import processor
from model.translator import Translator
from model.vocabulary import BOS, PAD, SPACE_MARK, Vocabulary
from training.testset import TestSet

BATCH = 32  # sentences
KINDS = ("control", "number", "mark", "beginning", "inside")  # of pieces: what ``kind`` returns
BENCH_EXPERTS, BENCH_TOKENS, BENCH_ROUNDS = (2, 4, 8, 16, 32), 1024, 7

# A layer ("encoder 0"), a language ("en"), a kind of token: how many choices fell on each expert
Use = dict[tuple[str, str, str], list[int]]


def kind(vocabulary: Vocabulary, id: int) -> str:
    """control pieces; pieces with a digit; pieces of marks alone; the beginning of a word; the inside of one."""
    piece = vocabulary.piece(id)
    text = piece.strip(SPACE_MARK)
    if vocabulary.is_control(id):
        return "control"
    if any(map(str.isdigit, text)) and not text.startswith("<0x"):
        return "number"
    if text and not any(unicodedata.category(c)[0] in "LN" for c in text):
        return "mark"
    return "beginning" if piece.startswith(SPACE_MARK) else "inside"


@torch.inference_mode()
def expert_use(translator: Translator, test: TestSet) -> Use:
    """Run the test set and its first references through the model and count what each gate chooses. UserError for a
    model without experts.
    """
    model, vocabulary = translator.model, translator.vocabulary
    layers: dict[str, nn.Module] = {}
    for name in ("encoder", "decoder"):
        for number, layer in enumerate(getattr(model, f"{name}_layers", ())):
            if isinstance(layer.feed_forward, MixtureOfExperts):
                layers[f"{name} {number}"] = layer.feed_forward
    if not layers:
        raise UserError(f"{translator.name} has no mixture of experts; train one with model.experts = 4")
    alone = not hasattr(model, "encoder_layers")  # one stack reads source and target in a row
    chosen: dict[str, Tensor] = {}

    def watch(name: str, mixture: MixtureOfExperts) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            tokens = inputs[0]
            logits = mixture.router(tokens).float().flatten(0, -2)
            picks = choose(logits, mixture.config.experts_per_token)[1]
            chosen[name] = picks.view(*tokens.shape[:-1], -1)  # (B, T, K)

        return mixture.register_forward_hook(hook)

    hooks = [watch(name, mixture) for name, mixture in layers.items() if isinstance(mixture, MixtureOfExperts)]
    use: Use = {}
    try:
        for start in range(0, len(test.sources), BATCH):
            rows = range(start, min(start + BATCH, len(test.sources)))
            sources = [vocabulary.source_ids(test.sources[i], test.target) for i in rows]
            targets = [[BOS, *translator.encode(test.references[i][0])] for i in rows]
            padded = [pad_sequence([torch.tensor(x) for x in ids], True, PAD) for ids in (sources, targets)]
            model(*padded)
            for name, experts in chosen.items():
                for i, (source, target) in enumerate(zip(sources, targets, strict=True)):
                    read = [(id, test.source) for id in source], [(id, test.target) for id in target]
                    tokens = read[0] + read[1] if alone else read[name.startswith("decoder")]
                    for (id, language), picks in zip(tokens, experts[i].tolist(), strict=False):
                        key = (name, language, kind(vocabulary, id))
                        counts = use.setdefault(key, [0] * translator.config.experts)
                        for expert in picks:
                            counts[expert] += 1
    finally:
        for hook in hooks:
            hook.remove()
    return use


def shares(use: Use) -> list[tuple[str, str, str, int, list[float]]]:
    """Rows of layer, language, kind ("all" first), choices and the share of each expert."""
    rows = []
    for layer, language in dict.fromkeys((layer, language) for layer, language, _ in use):
        total: Counter[int] = Counter()
        parts = []
        for name in KINDS:
            if counts := use.get((layer, language, name)):
                total.update(dict(enumerate(counts)))
                parts.append((layer, language, name, sum(counts), [count / sum(counts) for count in counts]))
        everything = sum(total.values())
        rows.append((layer, language, "all", everything, [total[i] / everything for i in sorted(total)]))
        rows += parts
    return rows


def use_as_dict(use: Use) -> dict[str, Any]:
    names = ("layer", "language", "tokens", "choices", "shares")
    return {"rows": [dict(zip(names, row, strict=True)) for row in shares(use)]}


def use_table(use: Use) -> str:
    rows = shares(use)
    experts = len(rows[0][4])
    lines = [f"{'layer':<12}{'language':<10}{'tokens':<11}{'choices':>9}" + "".join(f"{i:>7}" for i in range(experts))]
    for layer, language, name, count, values in rows:
        lines.append(f"{layer:<12}{language:<10}{name:<11}{count:>9,}" + "".join(f"{x:>7.0%}" for x in values))
    return "\n".join(lines)


def draw(use: Use, path: Path) -> None:
    """A heat map: which share of the tokens of each layer, language and kind goes to which expert."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = shares(use)
    experts = len(rows[0][4])
    figure, axis = plt.subplots(figsize=(0.7 * experts + 3.2, 0.26 * len(rows) + 1.2), layout="constrained")
    image = axis.imshow([row[4] for row in rows], cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axis.set_yticks(range(len(rows)), [f"{row[0]}, {row[1]}, {row[2]}" for row in rows], fontsize=8)
    axis.set_xticks(range(experts), [f"expert {i}" for i in range(experts)], fontsize=8)
    for y, row in enumerate(rows):
        for x, share in enumerate(row[4]):
            color = "white" if share > 0.6 else "black"
            axis.text(x, y, f"{share:.0%}", ha="center", va="center", fontsize=7, color=color)
        if row[2] == "all" and y:
            axis.axhline(y - 0.5, color="black", linewidth=0.8)
    figure.colorbar(image, ax=axis, shrink=0.6, label="share of the choices")
    figure.savefig(path, dpi=110)
    plt.close(figure)


# What they cost ----------------------------------------------------------------------------------------------------


def bench(
    experts: Sequence[int] = BENCH_EXPERTS, tokens: int = BENCH_TOKENS, rounds: int = BENCH_ROUNDS
) -> dict[str, Any]:
    """Milliseconds of processor time of a layer for so many tokens: one thread, the settings in turns, the median of
    the rounds.
    """
    torch.manual_seed(0)
    x = torch.randn(1, tokens, ModelConfig.d_model)
    layers = {
        (count, each): MixtureOfExperts(ModelConfig(experts=count, experts_per_token=each)).eval()
        for count in experts
        for each in (1, 2, 4)
        if each <= count
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times: dict[tuple[int, int], list[float]] = {key: [] for key in layers}
    try:
        with torch.inference_mode():
            for round in range(rounds + 1):  # the first one warms up
                for key, layer in layers.items():
                    began = time.thread_time()
                    layer(x)
                    if round:
                        times[key].append(1000 * (time.thread_time() - began))
    finally:
        torch.set_num_threads(threads)
    rows = [
        {
            "experts": count,
            "experts_per_token": each,
            "parameters": sum(parameter.numel() for parameter in layers[count, each].parameters()),
            "ms": statistics.median(found),
        }
        for (count, each), found in times.items()
    ]
    return {"machine": {"processor": processor(), "cores": os.cpu_count()}, "tokens": tokens, "rows": rows}


def bench_table(result: dict[str, Any]) -> str:
    each = sorted({row["experts_per_token"] for row in result["rows"]})
    lines = [
        f"{result['machine']['processor']}, one thread; processor time of a layer for {result['tokens']:,} tokens, ms",
        f"{'experts':>8}{'parameters':>13}" + "".join(f"{f'{k} a token':>12}" for k in each),
    ]
    for count in sorted({row["experts"] for row in result["rows"]}):
        rows = {row["experts_per_token"]: row for row in result["rows"] if row["experts"] == count}
        cells = "".join(f"{rows[k]['ms']:>12.1f}" if k in rows else " " * 12 for k in each)
        lines.append(f"{count:>8}{next(iter(rows.values()))['parameters']:>13,}{cells}")
    return "\n".join(lines)
