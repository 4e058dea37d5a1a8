"""From corpus to sacreBLEU in one command, with several seeds: mean and deviation of what a recipe gives.

    python -m training.reproduce RECIPE.toml --out DIR --seeds 1,2,3

trains in DIR/seed-1 and so on (a run that was stopped goes on, a finished one is not repeated) and scores each on the
recipe's [[test]] sets with beam 5: the best checkpoint and, where the recipe keeps one, the averaged.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from model.config import check
from model.errors import UserError
from training.evaluate import evaluate, scorers
from training.recipe import Recipe, load_recipe
from training.testset import TestSet, check_names, load_test_set

CHECKPOINTS = ("best", "averaged")


def reproduce(
    recipe: Path, out: Path, seeds: Sequence[int], overrides: Sequence[str], log: Callable[[str], None]
) -> dict[str, Any]:
    """Train and score; returns one row for each test set, metric and checkpoint."""
    from training.trainer import Trainer

    scores: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    signatures: dict[str, str] = {}
    runs = [load_recipe(recipe, [*overrides, f"training.seed={seed}"]) for seed in seeds]
    tests = _tests(runs[0])  # before the long part
    check(bool(tests), f"{recipe} has no [[test]] to score on")
    for seed, loaded in zip(seeds, runs, strict=True):
        folder = out / f"seed-{seed}"
        log(f"seed {seed} in {folder}")
        trainer = Trainer(loaded, folder, resume=True)
        trainer.run()
        check(not trainer.interrupted, f"stopped while it trained seed {seed}; the same command goes on from there")
        for test, metric, checkpoint, value, signature in _score(tests, folder):
            scores[test, metric, checkpoint].append(value)
            signatures[metric] = signature
            log(f"seed {seed}, {test}, {checkpoint}: {metric} {value:.2f}")
    rows = [
        {
            "test": test,
            "metric": metric,
            "checkpoint": checkpoint,
            "mean": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "scores": values,
        }
        for (test, metric, checkpoint), values in scores.items()
    ]
    return {"recipe": recipe.stem, "seeds": list(seeds), "signatures": signatures, "rows": rows}


def _tests(recipe: Recipe) -> list[tuple[TestSet, tuple[str, ...]]]:
    """What to score on, and by which metrics. UserError for what cannot be had."""
    found = []
    for one in recipe.tests:
        test = load_test_set(recipe.resolve(one.test), one.source, one.target, one.turned)
        scorers(one.metrics, test.target)
        found.append((test, one.metrics))
    check_names([test for test, _ in found])
    return found


def _score(tests: list[tuple[TestSet, tuple[str, ...]]], folder: Path) -> list[tuple[str, str, str, float, str]]:
    """(test, metric, checkpoint, score, signature) of every combination."""
    from model.translator import Translator

    found = []
    names = [name for name in CHECKPOINTS if (folder / name).exists()]
    translators = [Translator.load(folder / name, dtype="float32") for name in names]
    for test, metrics in tests:
        result = evaluate(translators, test, metrics=metrics, output=folder / "scores")
        title = f"{test.name} {test.source}-{test.target}"
        for name, system in zip(names, result.systems, strict=True):
            found += [(title, one.metric, name, one.score, one.signature) for one in system.scores]
    return found


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['recipe']}, seeds {', '.join(map(str, result['seeds']))}"]
    for row in result["rows"]:
        deviation = "" if row["deviation"] is None else f" ± {row['deviation']:.2f}"
        values = ", ".join(f"{value:.2f}" for value in row["scores"])
        lines.append(f"{row['test']}, {row['checkpoint']}: {row['metric']} {row['mean']:.2f}{deviation} ({values})")
    lines += [f"{metric}|{signature}" for metric, signature in result["signatures"].items()]
    return "\n".join([*lines, "± is the standard deviation over the seeds"])


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR")
@click.option("--seeds", default="1,2,3", show_default=True, metavar="N[,N]...")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one value.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def main(recipe: Path, out: Path, seeds: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Train RECIPE with several seeds and score each on its [[test]] sets."""
    try:
        numbers = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise click.BadParameter("seeds are numbers, separated by commas") from None
    try:
        result = reproduce(recipe, out, numbers, overrides, lambda line: click.echo(line, err=True))
    except UserError as error:
        click.echo(f"reproduce: {error}", err=True)
        sys.exit(2)
    click.echo(json.dumps(result) if as_json else table(result))


if __name__ == "__main__":
    main()
