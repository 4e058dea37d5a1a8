"""A picture of a training run: loss, validation BLEU and learning rate over target tokens."""

from __future__ import annotations

from pathlib import Path

from training.state import records


def draw_curves(log: Path, picture: Path) -> None:
    """Read ``log.jsonl`` and write a PNG. A run without records gets empty axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    logged = records(log)
    figure, axes = pyplot.subplots(3, 1, figsize=(8, 9), sharex=True, layout="constrained")
    panels = (
        (axes[0], ["loss"], "negative log-likelihood a token"),
        (axes[1], sorted({k for r in logged for k in r if k.startswith("bleu/")}), "sacreBLEU"),
        (axes[2], ["rate"], "learning rate"),
    )
    for axis, keys, title in panels:
        for key in keys:
            points = [(r["tokens"] / 1e6, r[key]) for r in logged if key in r]
            axis.plot(*zip(*points, strict=True), label=key.removeprefix("bleu/")) if points else None
        axis.set_ylabel(title)
        axis.grid(alpha=0.3)
        if len(keys) > 1:
            axis.legend()
    axes[2].set_xlabel("million target tokens")
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
