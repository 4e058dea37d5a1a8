"""Glossaries that a server keeps, by name, and those of a request.

Each place is a file, a folder of files (``*.tsv``, named after themselves) or NAME=FILE. ``reload`` looks again: a file
that cannot be read as a glossary is refused with a line in the log, and the old one of that name stays.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from model.config import check
from model.errors import UserError
from model.glossary import Glossary

log = logging.getLogger(__name__)


class Glossaries:
    """``places``: separated by commas. UserError at the start for one that cannot be used."""

    def __init__(self, places: str = "") -> None:
        self._places = [place for place in places.split(",") if place]
        self.by_name: dict[str, Glossary] = {}
        self.by_name = {name: self._load(name, path) for name, path in self._files()}

    def reload(self) -> None:
        found = {}
        for name, path in self._files():
            try:
                found[name] = self._load(name, path)
            except UserError as error:
                old = name in self.by_name
                log.error("glossary refused: %s%s", error, "; the old one stays" if old else "")
                if old:
                    found[name] = self.by_name[name]
        self.by_name = found

    def named(self, name: str, ignore_case: bool) -> Glossary:
        """KeyError where there is none of the name."""
        return self.by_name[name].in_any_case if ignore_case else self.by_name[name]

    def _files(self) -> Iterator[tuple[str, Path]]:
        seen: dict[str, Path] = {}
        for place in self._places:
            name, equals, file = place.rpartition("=")
            path = Path(file)
            for one in sorted(path.glob("*.tsv")) if path.is_dir() and not equals else [path]:
                key = name or one.stem
                check(key not in seen, f"two glossaries are named {key}: {seen.get(key)} and {one}")
                seen[key] = one
        yield from seen.items()

    def _load(self, name: str, path: Path) -> Glossary:
        glossary = Glossary.load(path)
        if glossary != self.by_name.get(name):
            log.info("glossary %s has %d terms", name, len(glossary.terms))
        return glossary
