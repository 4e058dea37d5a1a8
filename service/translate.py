"""Translation of files: windows of lines through a translator, each written as soon as it is done."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from model.config import SearchConfig, check
from service.lines import STDIN, Line, Output, read_all, windows

WINDOW_LINES = 2_000  # enough to sort by length for full batches; at most this much is lost by a crash
WINDOW_CHARACTERS = 1_000_000  # or fewer lines, if they are long
BAR_DELAY = 1.0  # seconds before the progress bar shows; what is done sooner needs none
FORMATS = ("text", "jsonl", "tsv")


class TranslatesTexts(Protocol):
    """A model.translator.Translator here or a service.client.Client of a server: both translate alike. What they
    return has ``hypotheses``, best first, each with ``text`` and ``score``."""

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig,
        progress: Callable[[int], object] | None,
    ) -> Sequence[Any]: ...


@dataclass(frozen=True)
class FileTranslation:
    """How files are translated and what each line of the output holds."""

    translator: TranslatesTexts
    source: str
    target: str
    search: SearchConfig
    format: str = "text"  # see format_line
    scores: bool = False

    def run(self, paths: Sequence[Path], output: Path | None) -> None:
        """Translate the files, one after the other, into one output; where that is a folder, each into a file of its
        own name there. Check with ``check_paths`` first."""
        parts = [([path], output / path.name) for path in paths] if output and output.is_dir() else [(paths, output)]
        with progress_bar(paths, output) as bar:
            for inputs, path in parts:
                with Output(path) as out:
                    self._translate(read_all(inputs), out, bar, interactive=STDIN in inputs and sys.stdin.isatty())

    def _translate(self, lines: Iterable[Line], out: Output, bar: tqdm, interactive: bool) -> None:
        self._window([])  # an unknown language is an error before the first line is read, also if there is none
        for window in windows(lines, 1 if interactive else WINDOW_LINES, WINDOW_CHARACTERS):
            before = int(bar.n)

            def progress(count: int, limit: int = before + len(window)) -> None:
                bar.update(min(count, limit - bar.n))  # sentences, and a line may hold several

            translations = self._window([line.text for line in window], progress)
            out.write(
                "".join(
                    format_line(line, translation.hypotheses, self.format, self.scores)
                    for line, translation in zip(window, translations, strict=True)
                )
            )
            bar.update(before + len(window) - bar.n)

    def _window(self, texts: list[str], progress: Callable[[int], object] | None = None) -> Sequence[Any]:
        return self.translator.translate(texts, self.source, self.target, self.search, progress)


def format_line(line: Line, hypotheses: Sequence[Any], format: str, scores: bool) -> str:
    """What the output says of one line of the input; always one line.

    text: the hypotheses, separated by tabs, each followed by its score if ``scores``.
    tsv: the source, then as text. A tab inside a text becomes a space.
    jsonl: an object with source, translation, score and hypotheses (text, score); nothing is replaced.
    """
    if format == "jsonl":
        best = hypotheses[0]
        found = [{"text": hypothesis.text, "score": round(hypothesis.score, 6)} for hypothesis in hypotheses]
        entry = {"source": line.text, "translation": best.text, "score": found[0]["score"], "hypotheses": found}
        return json.dumps(entry, ensure_ascii=False) + "\n"
    columns = [line.text] if format == "tsv" else []
    for hypothesis in hypotheses:
        # A model may write any character, a line end too, and the output must keep the number of lines.
        columns.append(hypothesis.text.replace("\n", " "))
        if scores:
            columns.append(f"{hypothesis.score + 0.0:.4f}")  # + 0.0: never "-0.0000"
    if len(columns) > 1:
        columns = [column.replace("\t", " ") for column in columns]
    mark = line.mark if format == "text" else ""
    return mark + "\t".join(columns) + line.end


def check_paths(paths: Sequence[Path], output: Path | None) -> None:
    """UserError for an input that cannot be read or an output that cannot be meant, before any work is done."""
    for path in paths:
        if path == STDIN:
            continue
        check(path.exists(), f"{path}: no such file")
        check(not path.is_dir(), f"{path} is a folder; name the files in it")
        check(os.access(path, os.R_OK), f"{path} cannot be read: permission denied")
    if output is None:
        return
    if not output.is_dir():
        check(not str(output).endswith(os.sep), f"{output}: no such folder; create it first")
        check(output.parent.is_dir(), f"{output.parent}: no such folder; create it first")
        return
    check(STDIN not in paths, f"-o {output} is a folder and standard input has no name; name a file")
    names = [path.name for path in paths]
    for path in paths:
        check(names.count(path.name) == 1, f"two inputs are named {path.name}: only one can be written to {output}")
        check(
            not (output / path.name).exists() or not path.samefile(output / path.name),
            f"-o {output} would replace the input {path}",
        )


def progress_bar(paths: Sequence[Path], output: Path | None) -> tqdm:
    """On standard error, if that is a terminal which the translations do not share."""
    shown = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    total = count_lines(paths) if shown else None
    return tqdm(total=total, unit=" lines", delay=BAR_DELAY, smoothing=0.1, disable=not shown, dynamic_ncols=True)


def count_lines(paths: Sequence[Path]) -> int | None:
    """Lines of all files; None where they cannot be known before they are read."""
    total = 0
    for path in paths:
        if path == STDIN or not stat.S_ISREG(path.stat().st_mode):
            return None
        last = b"\n"
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total, last = total + block.count(b"\n"), block[-1:]
        total += last != b"\n"
    return total
