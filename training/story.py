"""The pictures of docs/story.md that need no training: ``python -m training.story docs/story``."""

from __future__ import annotations

import argparse
import re
import statistics
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.config import ModelConfig, SearchConfig
from model.embedding import Rotary, sinusoidal_table
from model.feedforward import FeedForward
from model.transformer import EncoderDecoder, Residual
from model.translator import Translator
from model.vocabulary import EOS
from training import attention
from training.heads import PROBES
from training.script import run

TIGER = "The tiger jumped out of the tree to get a drink because it was thirsty."
DEPTH = 16  # layers of the encoder whose gradients are drawn,
SEEDS = 5  # the geometric mean over so many random starts
BLUE, RED, GREEN = "#1864ab", "#d9480f", "#2b8a3e"


class WithoutResidual(Residual):
    """f(norm(x)), and no x that passes by."""

    def forward(self, x: Tensor, sublayer: Any) -> Tensor:
        return sublayer(self.norm(x)) if self.pre_norm else self.norm(sublayer(x))


class ResidualAlone(Residual):
    """x + f(x)"""

    def forward(self, x: Tensor, sublayer: Any) -> Tensor:
        return x + sublayer(x)


class Neither(Residual):
    """f(x) alone: how deep networks were stacked before 2015."""

    def forward(self, x: Tensor, sublayer: Any) -> Tensor:
        return sublayer(x)


def gradient_norms(kind: type[Residual], norm_position: str, depth: int = DEPTH, seed: int = 0) -> list[float]:
    """The norm of the loss's gradient at the weights of each encoder layer, before any training: random sentences,
    random weights, ``kind`` around every sublayer of the encoder.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        vocab_size=200, d_model=64, num_heads=4, d_ff=128, encoder_layers=depth, decoder_layers=1,
        norm_position=norm_position, dropout=0.0,
    )  # fmt: skip
    model = EncoderDecoder(config)
    for layer in model.encoder_layers:
        for part in cast(nn.ModuleList, layer.residuals):
            part.__class__ = kind
    source, target = (torch.randint(EOS + 1, 200, (16, 12)) for _ in range(2))
    logits = model.output(model(source, target[:, :-1]))
    nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
    return [
        sum(float(p.grad.square().sum()) for p in layer.parameters() if p.grad is not None) ** 0.5
        for layer in model.encoder_layers
    ]


def draw_gradients(path: Path) -> None:
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
    for kind, position, color, style, label in (
        (Residual, "pre", BLUE, "-", "residual connections, pre-norm"),
        (Residual, "post", GREEN, "-", "residual connections, post-norm"),
        (ResidualAlone, "pre", BLUE, ":", "residual connections alone"),
        (WithoutResidual, "pre", RED, "--", "norm alone"),
        (Neither, "pre", RED, ":", "neither"),
    ):
        logs = torch.tensor([gradient_norms(kind, position, seed=seed) for seed in range(SEEDS)]).log()
        values = logs.mean(0).exp().tolist()
        label += f": first / last layer {values[0] / values[-1]:.2g}"
        axis.semilogy(range(DEPTH), values, style, marker="o", markersize=3, color=color, label=label)
    axis.set_xlabel("encoder layer; the loss is behind the last one")
    axis.set_ylabel("norm of the gradient")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_pieces(translator: Translator, path: Path) -> None:
    """A sentence as the model reads it."""
    plt = _pyplot()
    pieces = [translator.vocabulary.piece(id) for id in translator.vocabulary.source_ids(TIGER, "de")]
    figure, axis = plt.subplots(figsize=(9.5, 1.1), layout="constrained")
    axis.axis("off")
    at = 0.0
    for piece in pieces:
        text = piece.replace("\u2581", "_")
        width = 0.5 + 0.21 * len(text)
        color = "#ffe8cc" if text.startswith("<") else "#dbe9f6"  # control pieces
        axis.add_patch(plt.Rectangle((at, 0), width, 1, facecolor=color, edgecolor="white"))
        axis.text(at + width / 2, 0.5, text, ha="center", va="center", fontsize=8, family="monospace")
        axis.text(at + width / 2, -0.45, str(translator.vocabulary.id(piece)), ha="center", va="center", fontsize=6)
        at += width + 0.06
    axis.set_xlim(0, at)
    axis.set_ylim(-0.8, 1.05)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_positions(path: Path) -> None:
    """The sinusoids, and how the product of two turned vectors falls with their distance."""
    plt = _pyplot()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    image = left.imshow(sinusoidal_table(60, 64).T, cmap="RdBu", aspect="auto")
    left.set(title="sinusoidal: added to the embedding", xlabel="position", ylabel="dimension")
    figure.colorbar(image, ax=left, shrink=0.8)
    rotary = Rotary(128, 64)
    ones = torch.ones(1, 1, 1, 64)
    for start, color in ((0, BLUE), (40, RED)):
        query = rotary(ones, torch.tensor([start]))
        products = [float((query * rotary(ones, torch.tensor([start + d]))).mean()) for d in range(60)]
        right.plot(products, color=color, linestyle="-" if start == 0 else "--", label=f"query at {start}")
    right.set(title="rotary: only the distance counts", xlabel="key's distance", ylabel="product / head size")
    right.grid(alpha=0.3)
    right.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_activations(path: Path) -> None:
    """The three functions of model/feedforward.py, measured on its own layers."""
    plt = _pyplot()
    x = torch.linspace(-4, 4, 200)
    figure, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    for name, color in (("relu", BLUE), ("gelu", RED), ("swiglu", GREEN)):
        layer = FeedForward(ModelConfig(activation=name))
        label = "SwiGLU's gate (SiLU)" if name == "swiglu" else {"relu": "ReLU", "gelu": "GELU"}[name]
        axis.plot(x, layer.activation(x), color=color, label=label)
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_search(translator: Translator, path: Path) -> None:
    """What a beam gains: the mean log-probability of the best translations found, by beam size."""
    plt = _pyplot()
    lines = (PROBES / "coreference.en.txt").read_text(encoding="utf-8").splitlines()
    texts = [re.sub(r"[\[\]]", "", line) for line in lines]
    sizes, found = (1, 2, 3, 5, 8), []
    for size in sizes:
        search = SearchConfig(beam_size=size, length_penalty=0.0)
        found.append(statistics.mean(one.score for one in translator.translate(texts, "en", "de", search)))
    figure, axis = plt.subplots(figsize=(5, 2.6), layout="constrained")
    axis.plot(sizes, found, marker="o", color=BLUE)
    axis.set(xlabel="beam size", ylabel="mean log-probability", xticks=sizes)
    axis.set_title(f"the likeliest translations found, {len(texts)} sentences", fontsize=10)
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    translator = Translator.load(dtype="float32")
    draw_pieces(translator, folder / "pieces.png")
    draw_positions(folder / "positions.png")
    draw_activations(folder / "activations.png")
    draw_gradients(folder / "gradients.png")
    draw_search(translator, folder / "beam.png")
    explanation = translator.explain(TIGER, "en", "de")
    attention.draw(explanation, folder / "cross.png", ["cross"], 1)
    attention.draw_word(explanation, folder / "it.png", "it", "encoder")
    attention.draw(explanation, folder / "head-previous.png", ["encoder"], 2, 0)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


if __name__ == "__main__":
    run(main)
