"""A picture of a training run: loss, validation BLEU and learning rate over target tokens."""

from __future__ import annotations

import json
from pathlib import Path


def draw_curves(log: Path, picture: Path) -> None:
    """Read ``log.jsonl`` and write a PNG. A run without records gets empty axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    panels = (
        (axes[0], ["loss"], "negative log-likelihood a token"),
        (axes[1], sorted({k for r in records for k in r if k.startswith("bleu/")}), "sacreBLEU"),
        (axes[2], ["rate"], "learning rate"),
    )
    for axis, keys, title in panels:
        for key in keys:
            points = [(r["tokens"] / 1e6, r[key]) for r in records if key in r]
            axis.plot(*zip(*points, strict=True), label=key.removeprefix("bleu/")) if points else None
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        if len(keys) > 1:
            axis.legend()
    axes[2].set_xlabel("million target tokens")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
