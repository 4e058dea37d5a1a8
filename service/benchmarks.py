"""The commands that measure: `nmt bench ...`. Each prints a table, or one JSON object."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from model.errors import UserError
from service.study import bench_experts

TATOEBA = "../shared/data/eval/tatoeba.test.en-de.tsv"


@click.group(short_help="Measure speed.")
def bench() -> None:
    """Measure speed on this machine."""


@bench.command("serve", short_help="Calls a second, latency, overhead.")
@click.option("--clients", default="1,32", show_default=True, metavar="N[,N]...", help="Connections at once.")
@click.option("--calls", type=click.IntRange(10), default=500, show_default=True, metavar="N", help="In all, a row.")
@click.option("--seconds", type=float, metavar="S", help="Of a row with several clients, instead of --calls: a soak.")
@click.option("--sizes", default="1", show_default=True, metavar="N[,N]...", help="Sentences a request, in turn.")
@click.option("--checkpoint", metavar="DIR", help="Instead of the shipped model.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def bench_serve(
    clients: str, calls: int, seconds: float | None, sizes: str, checkpoint: str | None, as_json: bool
) -> None:
    """Start a server on loopback and load it with clients. Answers that differ from those of a single client end the
    run with an error. Speedup is the last row against the first."""
    import json

    from service.bench import bench as run
    from service.bench import table

    try:
        numbers = [[int(number) for number in text.split(",")] for text in (clients, sizes)]
    except ValueError:
        raise UserError("--clients and --sizes are numbers, separated by commas") from None
    limits = (calls, math.inf) if seconds is None else (sys.maxsize, seconds)
    result = run(numbers[0], limits[0], numbers[1], checkpoint, limits[1])
    click.echo(json.dumps(result) if as_json else table(result))


@bench.command("train", short_help="The training step, against a plain PyTorch loop.")
@click.argument("recipe", type=click.Path(path_type=Path), required=False, metavar="[RECIPE.toml]")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one value.")
@click.option("--corpora", type=click.Path(path_type=Path), metavar="DIR", help="Keeps the cleaned corpora.")
@click.option("--quick", is_flag=True, help="Ends within a minute, once the corpora are clean.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def bench_train(
    recipe: Path | None, overrides: tuple[str, ...], corpora: Path | None, quick: bool, as_json: bool
) -> None:
    """Train the model of a recipe (training/recipes/bench.toml, if none is named) on its corpora, from text to
    updated weights, and a model of the same size in PyTorch's own layers with the loop that one writes first. The two
    take turns; the weights are thrown away."""
    import json

    import training
    from training.bench_train import bench_train as run
    from training.recipe import load_recipe

    path = recipe or Path(training.__path__[0]) / "recipes" / "bench.toml"
    result = run(load_recipe(path, overrides), corpora, quick, lambda line: click.echo(line, err=True))
    if as_json:
        click.echo(json.dumps(result))
    else:
        speeds = [f"{row['engine']} {row['tokens_per_second']:,.0f}" for row in result["engines"]]
        click.echo(f"target tokens/s: {', '.join(speeds)}; ratio {result['ratio']:.2f}")


@bench.command("decode", short_help="Decoding, against other engines with the same weights.")
@click.option("--checkpoint", metavar="DIR", help="The model to use instead of the shipped one.")
@click.option("--test", default=TATOEBA, show_default=True, metavar="FILE", help="TSV: source, references.")
@click.option("--from", "source", default="en", show_default=True, metavar="LANG")
@click.option("--to", "target", default="de", show_default=True, metavar="LANG")
@click.option("--against", default="", metavar="ENGINES", help="Of ctranslate2, transformers.")
@click.option("--quick", is_flag=True, help="Ends within a minute.")
@click.option("--chart", type=click.Path(path_type=Path), metavar="FILE.png")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def bench_decode(
    checkpoint: str | None,
    test: str,
    source: str,
    target: str,
    against: str,
    quick: bool,
    chart: Path | None,
    as_json: bool,
) -> None:
    """Translate a test set one sentence at a time and in batches, greedy and with a beam of 5, on one thread and two;
    the engines take turns."""
    import json

    from training.bench import bench_decode as run
    from training.bench import draw
    from training.testset import load_test_set

    engines = [name.strip() for name in against.split(",") if name.strip()]
    result = run(
        checkpoint, load_test_set(test, source, target), engines, quick, lambda line: click.echo(line, err=True)
    )
    if chart:
        draw(result, chart)
    if as_json:
        click.echo(json.dumps(result))


@bench.command("glossary", short_help="Whether terms are placed, and what that costs.")
@click.option("--checkpoint", metavar="DIR", help="Instead of the shipped model.")
@click.option("--test", default=TATOEBA, show_default=True, metavar="FILE|NAME", help="As of nmt evaluate.")
@click.option("--from", "source", default="en", show_default=True, metavar="LANG")
@click.option("--to", "target", default="de", show_default=True, metavar="LANG")
@click.option("--sentences", type=click.IntRange(1), default=500, show_default=True, metavar="N", help="With terms.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output, with all translations.")
def bench_glossary(checkpoint: str | None, test: str, source: str, target: str, sentences: int, as_json: bool) -> None:
    """Make terms for the sentences of a test set, words that a reference has and invented names, and translate with
    and without them: how many are placed, and BLEU."""
    import json

    from model.translator import Translator
    from training.terms import bench_glossary as run
    from training.terms import table
    from training.testset import load_test_set

    result = run(Translator.load(checkpoint), load_test_set(test, source, target), sentences)
    click.echo(json.dumps(result, ensure_ascii=False) if as_json else table(result))


bench.add_command(bench_experts)
