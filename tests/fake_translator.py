"""A model.translator.Translator without a model: upper-cases (en-de) or lower-cases (de-en) the text, at once.

``python tests/fake_translator.py ARGS`` is `nmt ARGS` with it instead of the real one; FAKE_SLEEP is how many seconds
each of its calls takes, FAKE_LOADING how many it takes to load.
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from model.config import SearchConfig  # noqa: E402
from model.errors import CheckpointError, UserError  # noqa: E402


@dataclass(frozen=True)
class Hypothesis:
    text: str
    score: float
    tokens: tuple[str, ...] = ()
    token_scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Translation:
    hypotheses: tuple[Hypothesis, ...]

    @property
    def text(self) -> str:
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        return self.hypotheses[0].score


@dataclass
class FakeTranslator:
    """``before`` is called with the texts of each call: to wait, to fail."""

    name: str = "fake"
    languages: tuple[str, ...] = ("de", "en")
    before: Callable[[Sequence[str]], None] = lambda texts: None
    calls: list[list[str]] = field(default_factory=list)

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig = SearchConfig(),
        progress: Callable[[int], None] | None = None,
    ) -> list[Translation]:
        for language in (source, target):
            if language not in self.languages:
                raise UserError(f"unknown language '{language}'; known are {', '.join(self.languages)}")
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
                )
            )
            for text in texts
        ]

    @classmethod
    def load(cls, path: str | Path | None = None) -> FakeTranslator:
        if path is not None and not Path(path).is_dir():
            raise CheckpointError(f"checkpoint {path} does not exist")
        time.sleep(float(os.environ.get("FAKE_LOADING", 0)))
        seconds = float(os.environ.get("FAKE_SLEEP", 0))

        def before(texts: Sequence[str]) -> None:
            if seconds and texts != ["Good morning."]:  # the warm-up is not slowed
                print("fake: translating", file=sys.stderr, flush=True)
                time.sleep(seconds)

        return cls(before=before)


def module(translator: type[FakeTranslator] = FakeTranslator) -> types.ModuleType:
    """What stands in for the module model.translator."""
    fake = types.ModuleType("model.translator")
    fake.Translator, fake.Translation, fake.Hypothesis = translator, Translation, Hypothesis  # type: ignore[attr-defined]
    return fake


if __name__ == "__main__":
    sys.modules["model.translator"] = module()
    from service.cli import main

    main(prog_name="nmt")
