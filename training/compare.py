"""`nmt compare`: recipes trained and scored alike, in one table.

Each recipe runs once a seed, in a process of its own, so that its memory is its own; a run that is finished is not
repeated, one that was killed goes on. The data are cleaned once. All are scored on the same test set with the same
search, by length of the source too.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import SearchConfig
from model.errors import UserError
from model.machine import processor
from model.translator import Translator
from training.evaluate import quick_bleu, score
from training.experts import draw as draw_experts
from training.experts import expert_use
from training.recipe import Recipe, load_recipe
from training.state import LOG, records, write_atomically
from training.testset import TestSet

RESULT = "compared.json"
COLOURS = {"rotary": "#1864ab", "sinusoidal": "#d9480f", "learned": "#2b8a3e"}
BINS = (8, 12, 16, 20, 24, 32, 1000)  # pieces of a source, tag and EOS included: up to and including each


@dataclass(frozen=True)
class Run:
    """One recipe with one seed, trained and scored."""

    recipe: str
    seed: int
    identity: str  # of what decides the result
    choices: dict[str, Any]  # the model and the training
    parameters: int
    tokens: int  # target tokens seen
    tokens_per_second: float  # median over the run
    seconds: float
    peak_mb: float  # of the training process
    bleu: float
    mean: float  # of the bootstrap resamples
    confidence: float  # half the width of their 95 % interval
    signature: str
    lengths: dict[str, dict[str, float]]  # "9-12" pieces: sentences, BLEU


def compare(
    paths: Sequence[Path],
    out: Path,
    test: TestSet,
    seeds: Sequence[int],
    search: SearchConfig,
    overrides: Sequence[str],
    log: Callable[[str], None],
) -> list[Run]:
    """All runs, recipe by recipe in the order given, and in it seed by seed. UserError for what cannot be run."""
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise UserError("two recipes have the same name; rename one")
    recipes = {path: load_recipe(path, overrides) for path in paths}  # all are read before the first one runs
    runs = []
    for number, (path, recipe) in enumerate(recipes.items(), 1):
        for seed in seeds:
            run = _run(path, recipe, out / f"{path.stem}.seed{seed}", seed, test, search, overrides)
            runs.append(run)
            log(
                f"{number}/{len(paths)} {run.recipe}, seed {seed}: BLEU {run.bleu:.2f}, {run.tokens_per_second:,.0f} "
                f"tokens/s, {run.seconds:.0f} s"
            )
    return runs


def _run(
    path: Path, recipe: Recipe, folder: Path, seed: int, test: TestSet, search: SearchConfig, overrides: Sequence[str]
) -> Run:
    identity = _identity(recipe, seed, test, search)
    result, marker = folder / RESULT, folder / "identity"
    if marker.exists() and marker.read_text(encoding="utf-8") != identity:
        raise UserError(f"{folder} holds a run of other settings; remove it or choose another --out")
    if result.exists():
        return Run(**json.loads(result.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text(identity, encoding="utf-8")
    shared = folder.parent / "corpora"
    shared.mkdir(exist_ok=True)
    if not (folder / "corpora").exists():
        (folder / "corpora").symlink_to(shared.resolve(), target_is_directory=True)
    command = [sys.executable, "-m", "service.cli", "train", str(path), "--out", str(folder), "--resume"]
    for override in [*overrides, f"training.seed={seed}"]:
        command += ["--set", override]
    began = time.monotonic()
    log = folder / "train.log"
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)  # its own memory, not that of all children
    if status:
        last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1]
        raise UserError(f"{path}, seed {seed}: training failed, see {log}; {last}")
    _check_complete(recipe, folder)
    run = _scored(recipe, folder, seed, identity, time.monotonic() - began, usage.ru_maxrss / 1024, test, search)
    write_atomically(result, (json.dumps(dataclasses.asdict(run)) + "\n").encode())
    return run


def _check_complete(recipe: Recipe, folder: Path) -> None:
    """A run that was asked to stop ends well, but early."""
    logged = records(folder / LOG)
    limits, last = recipe.training, logged[-1]["step"] if logged else 0
    if last + limits.log_steps <= limits.max_steps and not limits.patience and limits.max_hours > 1e5:
        raise UserError(f"{folder} stopped at step {last} of {limits.max_steps}; the same command goes on with it")


def _scored(
    recipe: Recipe,
    folder: Path,
    seed: int,
    identity: str,
    seconds: float,
    peak_mb: float,
    test: TestSet,
    search: SearchConfig,
) -> Run:
    translator = Translator.load(folder / "best", dtype="float32")
    texts = [found.text for found in translator.translate(test.sources, test.source, test.target, search)]
    (folder / "hypotheses.txt").write_text("".join(f"{' '.join(t.split())}\n" for t in texts), encoding="utf-8")
    report = score(texts, test.references, ["bleu"], test.target)[0]
    logged = records(folder / LOG)
    speeds = [record["tokens_per_second"] for record in logged if "tokens_per_second" in record]
    lengths = [len(translator.vocabulary.source_ids(text, test.target)) for text in test.sources]
    return Run(
        recipe=recipe.name,
        seed=seed,
        identity=identity,
        choices=_choices(recipe),
        parameters=sum(parameter.numel() for parameter in translator.model.parameters()),
        tokens=logged[-1]["tokens"],
        tokens_per_second=statistics.median(speeds),
        seconds=seconds,
        peak_mb=peak_mb,
        bleu=report.score,
        mean=report.mean,
        confidence=report.confidence,
        signature=report.signature,
        lengths=by_length(texts, test, lengths),
    )


def by_length(texts: Sequence[str], test: TestSet, lengths: Sequence[int]) -> dict[str, dict[str, float]]:
    """BLEU of the sentences whose source has so many pieces; bins without sentences are left out."""
    found = {}
    for low, high in zip((0, *BINS), BINS, strict=False):
        rows = [i for i, length in enumerate(lengths) if low < length <= high]
        if rows:
            bleu = quick_bleu([texts[i] for i in rows], [test.references[i] for i in rows], test.target)
            name = f"{low + 1}-{high}" if high < BINS[-1] else f"over {low}"
            found[name] = {"sentences": len(rows), "bleu": bleu}
    return found


def _choices(recipe: Recipe) -> dict[str, Any]:
    model = {f"model.{key}": value for key, value in dataclasses.asdict(recipe.model).items()}
    training = {f"training.{key}": value for key, value in dataclasses.asdict(recipe.training).items()}
    return json.loads(json.dumps(model | training | {"vocabulary.size": recipe.vocabulary.size}))


def _identity(recipe: Recipe, seed: int, test: TestSet, search: SearchConfig) -> str:
    parts = [dataclasses.asdict(recipe) | {"root": "", "name": ""}, seed, test.sha256, dataclasses.asdict(search)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


# Table and charts --------------------------------------------------------------------------------------------------


def differences(runs: Sequence[Run]) -> dict[str, str]:
    """What each recipe chose otherwise than the first."""
    first = runs[0].choices
    ignored = ("training.seed",)
    return {
        run.recipe: ", ".join(
            f"{key.partition('.')[2]} = {value}"
            for key, value in run.choices.items()
            if value != first[key] and key not in ignored
        )
        or "–"
        for run in runs
    }


def table(runs: Sequence[Run], test: TestSet, search: SearchConfig) -> str:
    """Markdown: a row a recipe, over its seeds; then BLEU by length of the source."""
    by_recipe = group(runs)
    seeds = sorted({run.seed for run in runs})
    bins = list(dict.fromkeys(name for run in runs for name in run.lengths))
    told = differences(runs)
    lines = [
        f"{len(by_recipe)} recipes, seeds {', '.join(map(str, seeds))}; {test.name}, {test.source}-{test.target}, "
        f"{len(test.sources):,} sentences, beam {search.beam_size}; {processor()}, {os.cpu_count()} CPUs.",
        "",
        "BLEU is the mean over the seeds, ± the mean half-width of the 95 % bootstrap interval of a seed, then each",
        f"seed's own; `{runs[0].signature}`. Speed is that of training, in target tokens; memory the peak of its",
        "process.",
        "",
        "| recipe | what differs | parameters | tokens seen | tokens/s | memory, MB | BLEU | a seed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, some in by_recipe.items():
        bleu = f"{_mean(some, 'bleu'):.1f} ± {_mean(some, 'confidence'):.1f}"
        lines.append(
            f"| {name} | {told[name]} | {some[0].parameters:,} | {_mean(some, 'tokens') / 1e6:.2f} M | "
            f"{_mean(some, 'tokens_per_second'):,.0f} | {_mean(some, 'peak_mb'):,.0f} | {bleu} | "
            f"{', '.join(f'{run.bleu:.1f}' for run in some)} |"
        )
    lines += ["", "BLEU by length of the source in pieces, mean over the seeds (number of sentences in the head):", ""]
    counts = {name: int(run.lengths[name]["sentences"]) for run in runs for name in run.lengths}
    lines.append("| recipe | longest trained | " + " | ".join(f"{name} ({counts[name]})" for name in bins) + " |")
    lines.append("|---" * (len(bins) + 2) + "|")
    for name, some in by_recipe.items():
        cells = [f"{statistics.mean(run.lengths[bin]['bleu'] for run in some):.1f}" for bin in bins]
        lines.append(f"| {name} | {some[0].choices['training.max_tokens']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def group(runs: Sequence[Run]) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.recipe, []).append(run)
    return found


def draw_scores(runs: Sequence[Run], path: Path) -> None:
    """BLEU of every recipe with its interval, and of every seed."""
    plt = _pyplot()
    by_recipe = group(runs)
    figure, axis = plt.subplots(figsize=(8, 0.32 * len(by_recipe) + 1.4), layout="constrained")
    names = list(by_recipe)[::-1]
    means = [_mean(by_recipe[name], "bleu") for name in names]
    errors = [_mean(by_recipe[name], "confidence") for name in names]
    axis.barh(names, means, xerr=errors, color="#a5c8ec", ecolor="#333333", capsize=3)
    for y, name in enumerate(names):
        axis.plot([run.bleu for run in by_recipe[name]], [y] * len(by_recipe[name]), ".", color="#08306b")
    axis.set_xlabel("BLEU; bar: mean over the seeds, dots: seeds, line: 95 % bootstrap interval")
    axis.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_lengths(runs: Sequence[Run], path: Path) -> bool:
    """BLEU by length of the source for the recipes that differ from the first in positions or in the longest length
    trained alone; False and no picture where there are none.
    """
    first = runs[0].choices
    free = ("training.seed", "training.max_tokens", "model.positions")
    chosen = {
        name: some
        for name, some in group(runs).items()
        if all(value == first[key] for key, value in some[0].choices.items() if key not in free)
    }
    if len(chosen) < 2:
        return False
    plt = _pyplot()
    longest = sorted({some[0].choices["training.max_tokens"] for some in chosen.values()}, reverse=True)
    figure, axes = plt.subplots(
        1, len(longest), figsize=(4.6 * len(longest), 3.6), layout="constrained", squeeze=False, sharey=True
    )
    for axis, limit in zip(axes[0], longest, strict=True):
        for some in chosen.values():
            if some[0].choices["training.max_tokens"] == limit:
                bins = list(some[0].lengths)
                values = [statistics.mean(run.lengths[name]["bleu"] for run in some) for name in bins]
                positions = some[0].choices["model.positions"]
                axis.plot(bins, values, marker="o", color=COLOURS[positions], label=positions)
        axis.set_title(f"longest trained: {limit} pieces", fontsize=10)
        axis.set_xlabel("pieces of the source")
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(alpha=0.3)
        axis.legend()
    axes[0][0].set_ylabel("BLEU")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return True


def write(runs: Sequence[Run], out: Path, test: TestSet, search: SearchConfig, path: Path) -> None:
    """The table as ``path`` (Markdown), the charts beside it: scores, lengths and, of each recipe with several experts,
    what they take. ``out`` holds the runs.
    """
    scores, lengths = (path.with_name(f"{path.stem}-{name}.png") for name in ("bleu", "lengths"))
    draw_scores(runs, scores)
    pictures = f"\n![BLEU of the recipes]({scores.name})\n"
    if draw_lengths(runs, lengths):
        pictures += f"\n![BLEU by length]({lengths.name})\n"
    for name, some in group(runs).items():
        if some[0].choices["model.experts"] > 1:
            chart = path.with_name(f"{path.stem}-{name}.png")
            translator = Translator.load(out / f"{name}.seed{some[0].seed}" / "best", dtype="float32")
            draw_experts(expert_use(translator, test), chart)
            pictures += f"\nWhat the experts of {name}, seed {some[0].seed}, take:\n\n![{name}]({chart.name})\n"
    path.write_text(f"# Recipes compared\n\n{table(runs, test, search)}{pictures}", encoding="utf-8")


def _mean(runs: Sequence[Run], name: str) -> float:
    return statistics.mean(float(getattr(run, name)) for run in runs)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
