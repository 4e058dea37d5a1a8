"""The command line. Each command is a few lines over a library call; heavy imports are inside the commands, so that
``nmt --help`` is instant.

Exit codes: 0 done, 2 usage or bad input, 1 anything else. Results go to standard output, all else to standard error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from model.config import DTYPES
from model.errors import UserError
from service import study
from service.benchmarks import bench
from service.errors import ServiceError


class Commands(click.Group):
    """Turns the errors that a user can cause into one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            message, code = str(error), 2
        except ServiceError as error:
            message, code = str(error), 1
        except BrokenPipeError:  # who reads us has read enough, as in `nmt translate ... | head`
            ctx.exit(1)
        except OSError as error:
            message, code = f"{error.filename or 'input or output'}: {error.strerror or error}", 1
        click.echo(f"nmt: {' '.join(message.split())}", err=True)
        ctx.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="nmt")
def main() -> None:
    """Neural machine translation: translate, serve, train, evaluate."""


@main.command(short_help="Translate text, files and folders.")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--from", "source", required=True, metavar="LANG", help="Language of the input, for example en.")
@click.option("--to", "target", required=True, metavar="LANG", help="Language of the output, for example de.")
@click.option("-o", "output", type=click.Path(path_type=Path), metavar="PATH", help="File or folder; - is stdout.")
@click.option("--format", "format_", type=click.Choice(["text", "jsonl", "tsv"]), default="text", show_default=True)
@click.option("--input-format", metavar="NAME", help="Instead of what the names of the files say.")
@click.option("--columns", metavar="A,B", help="CSV, TSV, JSONL: what to translate; numbers where there is no header.")
@click.option("--resume", is_flag=True, help="Go on with a job that was stopped or killed.")
@click.option("--engine", type=click.Choice(["local", "ray"]), default="local", show_default=True)
@click.option("--scores", is_flag=True, help="A score after each translation (jsonl always has them).")
@click.option("--alignments", is_flag=True, help="After each translation: which word became which (0-0 1-2).")
@click.option("--formality", metavar="F", default="default", help="Form of address: formal or informal.")
@click.option("--glossary", metavar="FILE.tsv", help="Terms: source term, tab, what it is to become; a line each.")
@click.option("--ignore-case", is_flag=True, help="With --glossary: find the terms in any case.")
@click.option("--beam", "beam_size", type=int, metavar="N", help="Beam size; 1 is greedy.  [default: 5]")
@click.option("--nbest", type=int, metavar="N", help="Translations of each line, best first.  [default: 1]")
@click.option("--length-penalty", type=float, metavar="X", help="Above 1 favours longer output.  [default: 1]")
@click.option("--sampling", is_flag=True, default=None, help="Draw at random instead of searching.")
@click.option("--temperature", type=float, metavar="X", help="With --sampling.  [default: 1]")
@click.option("--top-k", type=int, metavar="K", help="With --sampling: of the K likeliest pieces only.")
@click.option("--seed", type=int, metavar="N", help="With --sampling.  [default: 0]")
@click.option("--checkpoint", metavar="DIR", help="The model to use instead of the shipped one.")
@click.option("--server", metavar="HOST:PORT", help="Let a running 'nmt serve' translate.")
@click.option("--token-file", metavar="FILE", help="With --server: the token that it wants.")
@click.option("--tls", metavar="FILE", help='With --server: PEM of its authority, or "system" for those trusted here.')
def translate(
    files: tuple[Path, ...],
    source: str,
    target: str,
    output: Path | None,
    format_: str,
    input_format: str | None,
    columns: str | None,
    resume: bool,
    engine: str,
    scores: bool,
    alignments: bool,
    formality: str,
    glossary: str | None,
    ignore_case: bool,
    checkpoint: str | None,
    server: str | None,
    token_file: str | None,
    tls: str | None,
    **search: Any,
) -> None:
    """Translate FILEs, or the lines of standard input. Of plain text, the same number of lines comes out, in order.

    Only the words of a document change: text, CSV, TSV, JSONL, Markdown, HTML, subtitles (SRT, WebVTT), gettext PO,
    DOCX. A FILE may be a folder or a quoted pattern ("docs/**/*.md"): the same tree appears below the folder -o. Files
    of plain text are joined, unless -o names a folder. A file is written as PATH.partial until it is complete.

    Bad records go to PATH.errors.jsonl, and the exit code is 2; doubtful translations (a lost number, a loop) are
    listed in PATH.warnings.jsonl; PATH.manifest.jsonl is what --resume goes on from.

    \b
    --format, of plain text:
      text   the translation; with --nbest or --scores, columns separated by tabs
      tsv    the source, then as text; a tab inside a text becomes a space
      jsonl  {"source": ..., "translation": ..., "score": ..., "hypotheses": [{"text": ..., "score": ...}],
             "warnings": [{"code": ..., "detail": ...}]}
    """
    from model.glossary import Glossary
    from service.documents import Options
    from service.inputs import STDIN, plan
    from service.translate import How, Job, identity_of, run
    from service.validation import search_config

    if server and checkpoint:
        raise UserError("--server translates with the server's model: leave out --checkpoint")
    if (token_file or tls) and not server:
        raise UserError("--token-file and --tls go with --server")
    config = search_config({name: value for name, value in search.items() if value is not None})
    named = tuple(name.strip() for name in columns.split(",")) if columns else ()
    if ignore_case and not glossary:
        raise UserError("--ignore-case goes with --glossary")
    terms = Glossary.load(glossary, ignore_case) if glossary else None
    output = None if output == STDIN else output  # "-", as for the input
    options = Options(source, named, format_, scores, alignments, config.nbest)
    parts = plan(files or (STDIN,), output, input_format, options)
    how = How(source, target, config, formality, terms, alignments)
    job = Job(tuple(parts), output, how, resume)
    if engine == "ray":
        import functools

        if server:
            raise UserError("--engine ray loads the model on every machine: leave out --server")
        try:
            from service.ray_engine import load_translator, run_on_ray
        except ModuleNotFoundError as error:
            raise UserError(f"--engine ray needs the extra 'ray': pip install 'nmt[ray]' ({error})") from None
        run_on_ray(job, functools.partial(load_translator, checkpoint))
    elif server:
        from service.access import read_tokens
        from service.client import Client, authority

        token = read_tokens(token_file)[0].decode("ascii") if token_file else ""
        with Client(server, token=token, tls=authority(tls)) as client:
            run(job, client, lambda: identity_of(client.model(source, target)))
    else:
        from model.translator import Translator

        translator = Translator.load(checkpoint)
        run(job, translator, lambda: identity_of(translator))


@main.command(short_help="Serve models over gRPC.")
@click.option("--checkpoint", metavar="DIR[,DIR]...", help="Checkpoints or folders of them.  [default: shipped]")
@click.option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.  [default: localhost:50051]")
@click.option("--web", metavar="HOST:PORT", help="Web page and HTTP API, or off.  [default: localhost:8080]")
@click.option("--workers", type=int, metavar="N", help="Processes that share the port.  [default: 1]")
@click.option(
    "--glossary", "glossaries", multiple=True, metavar="[NAME=]FILE.tsv", help="To keep by name; or a folder of them."
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting of service.config.")
def serve(
    checkpoint: str | None,
    listen: str | None,
    web: str | None,
    workers: int | None,
    glossaries: tuple[str, ...],
    settings: tuple[str, ...],
) -> None:
    """Serve translation.v1.TranslationService until SIGTERM or Ctrl-C, then finish the calls in flight; beside it, as a
    process of its own, the web page.

    Health reports SERVING once the models are loaded and warm. SIGHUP looks for new, changed and removed checkpoints
    and glossaries.
    The log on standard error names the port.
    """
    import logging
    import signal

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to look at again
    from service.config import ServiceConfig
    from service.observe import set_up_logging
    from service.server import serve as run
    from service.supervisor import is_again, supervise, this_worker

    options = {"listen": listen, "web": web, "workers": workers, "glossaries": ",".join(glossaries) or None}
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    config = ServiceConfig.from_settings([*settings, *given])
    set_up_logging(config.log_format)
    worker = this_worker()
    if worker:
        config = config.for_worker(*worker)
    elif config.workers > 1 or config.web_listen:
        sys.exit(supervise(config))
    paths = [Path(path) for path in checkpoint.split(",")] if checkpoint else [None]

    def load(path: Path | None) -> Any:
        from model.translator import Translator

        return Translator.load(path)

    late = is_again() and config.workers > 1
    answered = asyncio.run(run(paths, load, config, worker=worker is not None, late=late))
    logging.shutdown()
    os._exit(0 if answered else 1)  # the model's thread may still be at work, and there is no waiting for it


@main.command(short_help="Serve the web page and an HTTP API.")
@click.option("--server", metavar="HOST:PORT", help="Of 'nmt serve'.  [default: localhost:50051]")
@click.option("--listen", metavar="HOST:PORT", help="Port 0 takes a free one.  [default: localhost:8080]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any setting of service.gateway.config.")
def gateway(server: str | None, listen: str | None, settings: tuple[str, ...]) -> None:
    """Serve the web page and LibreTranslate's HTTP API in front of a running 'nmt serve', on this machine or another,
    until SIGTERM or Ctrl-C. /docs describes the API.
    """
    from service.gateway.config import GatewayConfig
    from service.gateway.run import serve as run
    from service.observe import set_up_logging

    options = {"server": server, "listen": listen}
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    config = GatewayConfig.from_settings([*settings, *given])
    set_up_logging(config.log_format)
    run(config)


@main.command(short_help="Ask a server whether it serves.")
@click.option("--server", default="localhost:50051", show_default=True, metavar="HOST:PORT", help="Of 'nmt serve'.")
@click.option("--gateway", metavar="HOST:PORT", help="Instead: of the web page, which asks its server.")
def health(server: str, gateway: str | None) -> None:
    """For the health checks of containers: the exit code is 0 if it serves, else 1. Not for servers with TLS."""
    from service.health import check_gateway, check_server

    check_gateway(gateway) if gateway else check_server(server)
    click.echo("serving")


@main.command(short_help="Train a model.")
@click.argument("recipe", type=click.Path(path_type=Path), metavar="RECIPE.toml")
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder of the run.")
@click.option("--resume", is_flag=True, help="Go on where the run in DIR stands.")
@click.option("--set", "overrides", multiple=True, metavar="SECTION.KEY=VALUE", help="Override one value.")
@click.option("--dry-run", is_flag=True, help="Only say what it takes: steps, tokens, memory, hours on GPUs.")
@click.option("--processes", type=click.IntRange(1), default=1, metavar="N", help="With --dry-run: GPUs.  [default: 1]")
def train(
    recipe: Path, out: Path | None, resume: bool, overrides: tuple[str, ...], dry_run: bool, processes: int
) -> None:
    """Train as RECIPE.toml says and print the folder of the best checkpoint."""
    from training.recipe import load_recipe

    loaded = load_recipe(recipe, overrides)
    if dry_run:
        from training.dry_run import plan

        click.echo(plan(loaded, processes))
        return
    if processes > 1:
        raise UserError("--processes goes with --dry-run; several GPUs train by torchrun (docs/training.md)")
    if out is None:
        raise UserError("a run needs a folder: add --out DIR, or --dry-run")
    from training.trainer import train as run

    click.echo(run(loaded, out, resume))


@main.command(short_help="Score checkpoints on a test set.")
@click.option("--checkpoint", "checkpoints", multiple=True, metavar="DIR", help="Several: each against the first.")
@click.option("--test", required=True, metavar="FILE|NAME", help="TSV: source, references; or sacreBLEU's wmt14/full.")
@click.option("--from", "source", required=True, metavar="LANG")
@click.option("--to", "target", required=True, metavar="LANG")
@click.option("--metrics", default="bleu,chrf,ter", show_default=True, help="Also bleu-moses, for Multi30k papers.")
@click.option("--turned", is_flag=True, help="The test set's second column is the source.")
@click.option("--formality", is_flag=True, help="Score the form of address; FILE: source, formal, informal, [F] marks.")
@click.option("--lexicon", metavar="FILE", help="Also list loops, missing clauses, words left that FILE translates.")
@click.option("--beam", "beam_size", type=int, metavar="N", help="Beam size; 1 is greedy.  [default: 5]")
@click.option("--length-penalty", type=float, metavar="X", help="Above 1 favours longer output.  [default: 1]")
@click.option("--limit", type=int, metavar="N", help="Only the first N sentences.")
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default="float32",
    show_default=True,
    help="Arithmetic; auto is what translate and serve use.",
)
@click.option("--output", default="runs/evaluation", show_default=True, metavar="DIR", help="Translations and scores.")
@click.option("--json", "as_json", is_flag=True, help="One object on standard output.")
def evaluate(
    checkpoints: tuple[str, ...],
    test: str,
    source: str,
    target: str,
    metrics: str,
    turned: bool,
    formality: bool,
    lexicon: str | None,
    limit: int | None,
    dtype: str,
    output: str,
    as_json: bool,
    **search: Any,
) -> None:
    """Translate a test set and report BLEU, chrF2 and TER with signatures and confidence intervals; with several
    checkpoints, also how likely the difference to the first is chance (paired bootstrap)."""
    import json

    from tqdm import tqdm

    from model.translator import Translator
    from service.validation import search_config
    from training.evaluate import evaluate as run
    from training.testset import load_test_set

    if formality and (turned or lexicon):
        raise UserError("--formality has scores of its own: leave out --turned and --lexicon")
    config = search_config({name: value for name, value in search.items() if value is not None})
    test_set = load_test_set(test, source, target, turned)
    if limit is not None:
        test_set = test_set.first(limit)
    known = None
    if lexicon:
        from training.faults import Lexicon, list_faults

        known = Lexicon.load(lexicon, source, target).facing(test_set.sources)
    # None: the shipped checkpoint
    translators = [Translator.load(path, dtype=dtype) for path in checkpoints or (None,)]
    for translator in translators:
        translator.check(source, target)  # before the first one spends minutes
    # No total: repeated sentences are translated once, long ones in parts
    with tqdm(unit=" sentences", disable=None) as bar:
        if formality:
            from training.formality import as_dict, evaluate_formality

            for translator in translators:
                scores = evaluate_formality(translator, test_set, config, bar.update)
                found = as_dict(translator, test_set, scores)
                click.echo(json.dumps(found) if as_json else "\n".join([translator.name, *map(str, scores)]))
            return
        names = [name.strip() for name in metrics.split(",")]
        result = run(translators, test_set, config, names, output, bar.update)
    report, lines = result.as_dict(), [result.table()]
    if known:
        for system, entry in zip(result.systems, report["systems"], strict=True):
            entry["faults"] = list_faults(test_set.sources, system.hypotheses, test_set.references, known)
            lines += [f"{system.name}: {len(entry['faults'])} of {len(test_set.sources)} sentences have a fault"]
            lines += [
                f"{one['line']}: {one['fault']}: {one['source']} | {one['hypothesis']}" for one in entry["faults"]
            ]
    click.echo(json.dumps(report, ensure_ascii=False) if as_json else "\n".join(lines))


@main.command(short_help="Convert a checkpoint.")
@click.argument("output", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--to", "form", type=click.Choice(["ctranslate2", "int6"]), required=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), metavar="DIR", help="Instead of the shipped one.")
@click.option("--card", type=click.Path(path_type=Path), metavar="FILE", help="int6: another model card.")
def export(output: Path, form: str, checkpoint: Path | None, card: Path | None) -> None:
    """Write a checkpoint into the folder DIR: as a CTranslate2 model, or as a checkpoint of a sixth of the size."""
    from model.checkpoint import PRETRAINED
    from training.export import to_ctranslate2, to_int6

    if form == "int6":
        to_int6(checkpoint or PRETRAINED, output, card)
        return
    if card:
        raise UserError("--card goes with --to int6; a CTranslate2 model has no card")
    to_ctranslate2(checkpoint or PRETRAINED, output)


for command in (study.attention, study.experts, study.compare):
    main.add_command(command)
main.add_command(bench)

if __name__ == "__main__":
    main(prog_name="nmt")
