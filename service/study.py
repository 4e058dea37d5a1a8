"""The commands that look into models: what attends to what, what experts do, what each choice of a recipe is worth."""

from __future__ import annotations

import json
from pathlib import Path

import click

from model.errors import UserError


@click.command(short_help="Attention to look at.")
@click.argument("text", required=False)
@click.option("--from", "source", default="en", show_default=True, metavar="LANG")
@click.option("--to", "target", default="de", show_default=True, metavar="LANG")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="FILE.png|.html|.json")
@click.option("--translation", metavar="TEXT", help="Explain this translation instead of the model's own.")
@click.option("--kind", type=click.Choice(["encoder", "decoder", "cross"]), help="PNG: only this one.")
@click.option("--layer", type=int, metavar="L", help="PNG: from 0.  [default: the last]")
@click.option("--head", type=int, metavar="H", help="PNG: from 0.  [default: the mean of all]")
@click.option("--word", metavar="WORD", help="PNG: what this word attends to, in every layer and head.")
@click.option("--heads", is_flag=True, help="Score what each head does, over --test.")
@click.option("--test", metavar="FILE", help="With --heads. TSV: source, references.")
@click.option("--limit", type=int, default=500, show_default=True, metavar="N", help="With --heads: sentences.")
@click.option("--checkpoint", metavar="DIR", help="The model to use instead of the shipped one.")
@click.option("--json", "as_json", is_flag=True, help="With --heads: one object on standard output.")
def attention(
    text: str | None,
    source: str,
    target: str,
    output: Path | None,
    translation: str | None,
    kind: str | None,
    layer: int | None,
    head: int | None,
    word: str | None,
    heads: bool,
    test: str | None,
    limit: int,
    checkpoint: str | None,
    as_json: bool,
) -> None:
    """Draw what attends to what in the translation of TEXT, one sentence; print the translation. Or, with --heads, say
    which heads look at the word before, the word after, the word itself, a separator, what a pronoun stands for."""
    from model.translator import Translator

    if heads:
        from training.heads import score_heads
        from training.testset import load_test_set

        if text or not test:
            raise UserError("--heads takes --test FILE instead of a text")
        test_set = load_test_set(test, source, target).first(limit)
        translator = Translator.load(checkpoint, dtype="float32")
        translator.check(source, target)
        report = score_heads(translator, test_set)
        click.echo(json.dumps(report.as_dict()) if as_json else report.table())
        return
    from training.attention import write

    if not text or not output:
        raise UserError("give a sentence and a file: nmt attention 'A sentence.' -o FILE.png|.html|.json")
    explanation = Translator.load(checkpoint, dtype="float32").explain(
        text, source, target, translated_text=translation or ""
    )
    write(explanation, output, kind, layer, head, word)
    click.echo(explanation.translation.text)


@click.command(short_help="Train and score recipes alike.")
@click.argument("recipes", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RECIPE.toml...")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder of the runs.")
@click.option("--test", required=True, metavar="FILE|NAME", help="As of evaluate.")
@click.option("--from", "source", default="en", show_default=True, metavar="LANG")
@click.option("--to", "target", default="de", show_default=True, metavar="LANG")
@click.option("--seeds", default="1,2", show_default=True, metavar="N[,N]...")
@click.option("--beam", "beam_size", type=int, default=5, show_default=True, metavar="N")
@click.option("--table", "table_file", type=click.Path(path_type=Path), metavar="FILE.md", help="And charts.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one value in all.")
def compare(
    recipes: tuple[Path, ...],
    out: Path,
    test: str,
    source: str,
    target: str,
    seeds: str,
    beam_size: int,
    table_file: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Train every recipe with every seed, score all on one test set, and print a table. The first recipe is what the
    others are compared with. Runs in DIR that are finished are not repeated; one that was killed goes on."""
    from model.config import SearchConfig
    from training.compare import compare as run
    from training.compare import table, write
    from training.testset import load_test_set

    try:
        numbers = [int(number) for number in seeds.split(",")]
    except ValueError:
        raise UserError(f"--seeds {seeds}: numbers, separated by commas") from None
    test_set, search = load_test_set(test, source, target), SearchConfig(beam_size=beam_size)
    runs = run(recipes, out, test_set, numbers, search, overrides, lambda line: click.echo(line, err=True))
    if table_file:
        write(runs, out, test_set, search, table_file)
    click.echo(table(runs, test_set, search), nl=False)


@click.command(short_help="Which experts do what.")
@click.option("--checkpoint", metavar="DIR", required=True, help="A model with several experts.")
@click.option("--test", required=True, metavar="FILE", help="TSV: source, references.")
@click.option("--from", "source", default="en", show_default=True, metavar="LANG")
@click.option("--to", "target", default="de", show_default=True, metavar="LANG")
@click.option("--limit", type=int, default=500, show_default=True, metavar="N", help="Sentences.")
@click.option("--chart", type=click.Path(path_type=Path), metavar="FILE.png")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def experts(
    checkpoint: str, test: str, source: str, target: str, limit: int, chart: Path | None, as_json: bool
) -> None:
    """The share of tokens that each expert takes, by language and by kind of token, in every layer."""
    from model.translator import Translator
    from training.experts import draw, expert_use, use_as_dict, use_table
    from training.testset import load_test_set

    translator = Translator.load(checkpoint, dtype="float32")
    translator.check(source, target)
    use = expert_use(translator, load_test_set(test, source, target).first(limit))
    if chart:
        draw(use, chart)
    click.echo(json.dumps(use_as_dict(use)) if as_json else use_table(use))


@click.command("experts", short_help="Time of a mixture of experts.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def bench_experts(as_json: bool) -> None:
    """Time a feed-forward layer with more and more experts of which a token passes through one, two, four: parameters
    grow with the number of experts, time with the experts a token."""
    from training.experts import bench, bench_table

    result = bench()
    click.echo(json.dumps(result) if as_json else bench_table(result))
