"""A model.translator.Translator without a model: upper-cases (en-de) or lower-cases (de-en) the text, at once.

``python tests/fake_translator.py ARGS`` is `nmt ARGS` with it instead of the real one; FAKE_SLEEP is how many seconds
each of its steps takes, FAKE_LOADING how many it takes to load.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from model import guards  # noqa: E402
from model.config import SearchConfig  # noqa: E402
from model.errors import CheckpointError, UserError  # noqa: E402
from model.glossary import Glossary, replaced  # noqa: E402

WARM_UP = "Good morning, number "


@dataclass(frozen=True)
class Hypothesis:
    text: str
    score: float
    tokens: tuple[str, ...] = ()
    token_scores: tuple[float, ...] = ()
    alignment: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Translation:
    hypotheses: tuple[Hypothesis, ...]
    warnings: tuple[guards.QualityWarning, ...] = ()

    @property
    def text(self) -> str:
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        return self.hypotheses[0].score


@dataclass(frozen=True)
class Document:
    """The whole text is one sentence of as many tokens as characters."""

    text: str
    sources: tuple[tuple[int, ...], ...]
    lost: tuple[str, ...] = ()  # terms that find no place


class Pool:
    """Each sentence takes ``steps`` steps. ``before`` is called with the texts in the pool, before a step."""

    def __init__(self, translator: FakeTranslator, search: SearchConfig) -> None:
        self.translator, self.search = weakref.proxy(translator), search  # the real one's does not keep it either
        self.beam = search.nbest if search.sampling else search.beam_size
        self.live: dict[int, tuple[str, bool, int]] = {}  # ticket -> text, to German, steps left
        self.tickets = 0

    def __len__(self) -> int:
        return len(self.live)

    def add(self, sources: Sequence[tuple[int, ...]], required: Any = None) -> list[int]:
        first = self.tickets
        for ids in sources:
            text = "".join(map(chr, ids[1:]))
            self.live[self.tickets] = text, bool(ids[0]), self.translator.steps
            self.tickets += 1
        added = list(range(first, self.tickets))
        self.translator.calls.append([self.live[ticket][0] for ticket in added])
        return added

    def drop(self, tickets: set[int]) -> None:
        self.translator.dropped += [self.live.pop(ticket)[0] for ticket in sorted(tickets)]

    def step(self) -> list[tuple[int, Any]]:
        self.translator.before([text for text, _, _ in self.live.values()])
        self.live = {t: (text, de, left - 1) for t, (text, de, left) in self.live.items()}
        finished = []
        for ticket, (text, to_german, left) in list(self.live.items()):
            if left <= 0:
                change = str.upper if to_german else str.lower
                finished.append((ticket, [change(text) + "'" * k for k in range(self.search.nbest)]))
                del self.live[ticket]
        return finished


@dataclass(eq=False)
class FakeTranslator:
    """``before`` is called with the texts of each step: to wait, to fail. ``calls``: what joined a pool, or was
    translated, together.
    """

    name: str = "fake"
    hash: str = "0123456789abcdef"
    languages: tuple[str, ...] = ("de", "en")
    before: Callable[[Sequence[str]], None] = lambda texts: None
    calls: list[list[str]] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    steps: int = 1

    def check(self, source: str, target: str, formality: str = "default") -> None:
        for language in (source, target):
            if language not in self.languages:
                raise UserError(f"unknown language '{language}'; known are {', '.join(self.languages)}")
        if formality != "default" and target != "de":
            raise UserError(f"formality = {formality} is not to be had in '{target}'; leave it at default")

    def prepare(
        self, text: str, source: str, target: str, formality: str = "default", glossary: Glossary | None = None
    ) -> Document:
        mark = {"default": "", "formal": "Sie: ", "informal": "du: "}[formality]
        found = glossary.find(text) if glossary else []
        ids = (int(target == "de"), *map(ord, mark + replaced(text, found)))
        lost = (match.term.source for match in found if match.term.target != match.term.target.upper())
        return Document(text, (ids,), tuple(lost))

    def required(self, document: Document, index: int) -> tuple[Any, ...]:
        return ()

    def first_search(self, document: Document, index: int, search: SearchConfig) -> SearchConfig:
        return search

    def search_for(self, required: Any, search: SearchConfig) -> SearchConfig:
        return search

    def pool(self, search: SearchConfig) -> Pool:
        return Pool(self, search)

    def review(self, document: Document, results: Sequence[Any], search: SearchConfig) -> tuple[Document, list[Any]]:
        doubtful = search.nbest == 1 < search.beam_size and "doubt" in document.text
        return document, [None if doubtful else found for found in results]

    def wider(self, search: SearchConfig) -> SearchConfig:
        return dataclasses.replace(search, nbest=search.beam_size)

    def assemble(self, document: Document, results: Sequence[list[str]], search: SearchConfig) -> Translation:
        texts = results[0] if results else [""]
        found = tuple(
            Hypothesis(text, -0.25 * (k + 1) if results else 0.0, (texts[0],) if results else (), (-0.25,))
            for k, text in enumerate(texts)
        )
        if len(found) > search.nbest:  # of the wider search: the second is the clean one
            return Translation(found[1 : search.nbest + 1], (guards.QualityWarning("REPETITION", "doubt"),))
        return Translation(
            found, tuple(guards.QualityWarning("GLOSSARY_TERM_NOT_PLACED", term) for term in document.lost)
        )

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig = SearchConfig(),
        progress: Callable[[int], object] | None = None,
        formality: str = "default",
        glossary: Glossary | None = None,
    ) -> list[Translation]:
        self.check(source, target, formality)
        texts = [replaced(text, glossary.find(text)) if glossary else text for text in texts]
        self.calls.append(list(texts))
        self.before(texts)
        if progress:
            progress(len(texts))
        change = str.upper if target == "de" else str.lower
        return [
            Translation(
                tuple(
                    Hypothesis(change(text) + "'" * k, -0.25 * (k + 1), (change(text),), (-0.25,))
                    for k in range(search.nbest)
                ),
                (guards.QualityWarning("REPETITION", "doubt"),) if "doubt" in text else (),
            )
            for text in texts
        ]

    def aligning(self, translations: Sequence[Translation]) -> Iterator[list[Translation] | None]:
        """Without links."""
        yield list(translations)

    @classmethod
    def load(cls, path: str | Path | None = None) -> FakeTranslator:
        if path is not None and not Path(path).is_dir():
            raise CheckpointError(f"checkpoint {path} does not exist")
        if path is not None and (Path(path) / "corrupt").exists():
            raise CheckpointError(f"checkpoint {path}: model.safetensors is damaged")
        time.sleep(float(os.environ.get("FAKE_LOADING", 0)))
        seconds = float(os.environ.get("FAKE_SLEEP", 0))

        def before(texts: Sequence[str]) -> None:
            if seconds and not (texts and texts[0].startswith(WARM_UP)):  # the warm-up is not slowed
                print("fake: translating", file=sys.stderr, flush=True)
                time.sleep(seconds)

        return cls(name="fake" if path is None else Path(path).name, before=before)


def module(translator: type[FakeTranslator] = FakeTranslator) -> types.ModuleType:
    """What stands in for the module model.translator."""
    fake = types.ModuleType("model.translator")
    fake.Translator, fake.Translation, fake.Hypothesis = translator, Translation, Hypothesis  # type: ignore[attr-defined]
    return fake


if __name__ == "__main__":
    sys.modules["model.translator"] = module()
    from service.cli import main

    main(prog_name="nmt")
