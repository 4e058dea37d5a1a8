"""Attention to look at: a heat map (PNG), an interactive page (HTML, one file, no network), JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from model.config import check
from model.errors import UserError
from model.explain import Explanation

PAGE = Path(__file__).parent / "attention.html"
SUFFIXES = (".png", ".html", ".json")


def write(
    explanation: Explanation,
    path: Path,
    kind: str | None = None,
    layer: int | None = None,
    head: int | None = None,
    word: str | None = None,
) -> None:
    """The format is that of the suffix. ``kind``, ``layer``, ``head`` and ``word`` choose what a PNG shows: the mean
    over the heads of the last layer where they are absent; what one word attends to in every layer and head if it is
    named. UserError for what the model does not have.
    """
    suffix = path.suffix.lower()
    check(suffix in SUFFIXES, f"{path}: the name must end in one of {' '.join(SUFFIXES)}")
    check(path.absolute().parent.is_dir(), f"{path.parent}: no such folder; create it first")
    if suffix == ".png":
        if word is not None:
            draw_word(explanation, path, word, kind or next(iter(explanation.maps)))
        else:
            draw(explanation, path, [kind] if kind else list(explanation.maps), layer, head)
    elif suffix == ".json":
        path.write_text(json.dumps(as_dict(explanation), ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        path.write_text(page(explanation), encoding="utf-8")


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """For JSON: each map with the labels of its rows and columns; weights[layer][head][row][column]."""
    maps = {}
    for kind, weights in explanation.maps.items():
        rows, columns = explanation.labels(kind)
        rounded = [[[[round(x, 4) for x in row] for row in head] for head in layer] for layer in weights.tolist()]
        maps[kind] = {"rows": rows, "columns": columns, "weights": rounded}
    return {
        "translated_text": explanation.translation.text,
        "source_tokens": explanation.source_tokens,
        "target_tokens": explanation.target_tokens,
        "maps": maps,
    }


def page(explanation: Explanation) -> str:
    data = json.dumps(as_dict(explanation), ensure_ascii=False).replace("<", "\\u003c")  # no text may end the script
    return PAGE.read_text(encoding="utf-8").replace("/*DATA*/null", data)


def chosen(explanation: Explanation, kind: str, layer: int | None, head: int | None) -> tuple[Tensor, str]:
    """One map (rows, columns), and its title. Absent: the last layer, the mean over its heads."""
    check(kind in explanation.maps, f"this model has no {kind} attention; it has {', '.join(explanation.maps)}")
    weights = explanation.maps[kind]
    layers, heads = weights.shape[:2]
    layer = layers - 1 if layer is None else layer
    check(0 <= layer < layers, f"layer = {layer}: the {kind} has layers 0 to {layers - 1}")
    if head is None:
        return weights[layer].mean(0), f"{kind}, layer {layer}, mean of {heads} heads"
    check(0 <= head < heads, f"head = {head}: there are heads 0 to {heads - 1}")
    return weights[layer, head], f"{kind}, layer {layer}, head {head}"


def draw(
    explanation: Explanation, path: Path, kinds: Sequence[str], layer: int | None = None, head: int | None = None
) -> None:
    """Heat maps side by side; a layer that one kind does not have is an error only where all lack it."""
    plt = _pyplot()
    panels = []
    for kind in kinds:
        try:
            panels.append((kind, *chosen(explanation, kind, layer, head)))
        except UserError:
            if kind == kinds[-1] and not panels:
                raise
    sizes = [weights.shape for _, weights, _ in panels]
    width = sum(0.28 * columns + 1.6 for _, columns in sizes)
    height = max(0.28 * rows + 1.8 for rows, _ in sizes)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(max(4.0, width), max(3.0, height)), layout="constrained", squeeze=False,
        width_ratios=[columns + 5 for _, columns in sizes],
    )  # fmt: skip
    for axis, (kind, weights, title) in zip(axes[0], panels, strict=True):
        image = _heat_map(axis, weights, *explanation.labels(kind))
        axis.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes[0].tolist(), shrink=0.6, label="weight", fraction=0.03)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_word(explanation: Explanation, path: Path, word: str, kind: str = "encoder") -> None:
    """What one word attends to: a row for each layer and head."""
    plt = _pyplot()
    check(kind in explanation.maps, f"this model has no {kind} attention; it has {', '.join(explanation.maps)}")
    rows, columns = explanation.labels(kind)
    found = [i for i, piece in enumerate(rows) if piece.strip("\u2581") == word]
    check(bool(found), f"'{word}' is none of the pieces {' '.join(rows)}")
    weights = explanation.maps[kind][:, :, found[0]]  # (L, H, columns)
    layers, heads = weights.shape[:2]
    names = [f"{layer}.{head}" for layer in range(layers) for head in range(heads)]
    flat = weights.flatten(0, 1)
    figure, axis = plt.subplots(figsize=(0.32 * len(columns) + 2.2, 0.24 * len(names) + 1.6), layout="constrained")
    image = _heat_map(axis, flat, names, columns)
    for layer in range(1, layers):
        axis.axhline(layer * heads - 0.5, color="black", linewidth=0.6)
    axis.set_ylabel("layer.head")
    axis.set_title(f"what “{word}” attends to ({kind})", fontsize=10)
    figure.colorbar(image, ax=axis, shrink=0.6, label="weight", fraction=0.04)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _heat_map(axis: Any, weights: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Any:
    image = axis.imshow(weights.float().numpy(), cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    axis.set_xticks(range(len(columns)), [_label(piece) for piece in columns], rotation=90, fontsize=8)
    axis.set_yticks(range(len(rows)), [_label(piece) for piece in rows], fontsize=8)
    axis.tick_params(length=2)
    return image


def _label(piece: str) -> str:
    """Matplotlib takes $ for mathematics; a word's first piece shows its space as a low line."""
    return piece.replace("\u2581", "_").replace("$", r"\$")


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
