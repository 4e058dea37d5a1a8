"""A text of a request on its way to the model and back: plain, or HTML of which only the words change."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from service.detection import detect
from service.documents.html import parse
from service.documents.inline import Unit
from service.jobs import How

if TYPE_CHECKING:
    from model.translator import Document, Translation


@dataclass(frozen=True)
class Content:
    """``documents`` are to be translated; ``pieces`` of HTML stay, but for the units, which hold the documents in
    turn. ``in_target``: the text is in the target language already, there is nothing to do."""

    text: str
    detected: str = ""  # language, where it was not named
    documents: tuple[Document, ...] = ()
    pieces: tuple[str | Unit, ...] = ()
    in_target: bool = False

    def render(self, found: Sequence[Translation], search: Any) -> Translation | None:
        """The translation of the text from those of its documents; None where it stands for itself."""
        if not found or not self.pieces:
            return found[0] if found else None
        count = min(search.nbest, max(len(one.hypotheses) for one in found))
        hypotheses = tuple(self._hypothesis(found, k, search) for k in range(count))
        warnings = tuple(dict.fromkeys(warning for one in found for warning in one.warnings))
        return dataclasses.replace(found[0], hypotheses=hypotheses, warnings=warnings)

    def _hypothesis(self, found: Sequence[Translation], k: int, search: Any) -> Any:
        """The k-th best of each part, or its last. The model's pieces are those of all parts in turn."""
        chosen = [one.hypotheses[min(k, len(one.hypotheses) - 1)] for one in found]
        texts = iter([one.text for one in chosen])
        text = "".join(
            piece if isinstance(piece, str) else piece.render([next(texts) for _ in piece.texts])
            for piece in self.pieces
        )
        tokens = tuple(token for one in chosen for token in one.tokens)
        scores = tuple(score for one in chosen for score in one.token_scores)
        return dataclasses.replace(chosen[0], text=text, score=search.score(scores), tokens=tokens, token_scores=scores)


def prepare(text: str, how: How) -> Content:
    """The text made ready for the model."""
    source, detected = how.source, ""
    if not source:
        found = detect(visible(text) if how.html else text, how.translator.languages, only=True)
        detected = found[0][0] if found else ""
        source = detected or next(code for code in how.translator.languages if code != how.target)
        if source == how.target:
            return Content(text, detected, in_target=True)
    pieces = tuple(parse(text, source)) if how.html else ()
    texts = [part for piece in pieces if isinstance(piece, Unit) for part in piece.texts] if how.html else [text]
    settings = source, how.target, how.formality, how.glossary
    return Content(text, detected, tuple(how.translator.prepare(part, *settings) for part in texts), pieces)


def visible(text: str) -> str:
    """The words of HTML, as a reader sees them."""
    units = (piece for piece in parse(text, "en") if isinstance(piece, Unit))
    return re.sub(r"\s+", " ", " ".join(part for unit in units for part in unit.texts))
