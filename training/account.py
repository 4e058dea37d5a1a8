"""The account of cleaning: what was kept, what was dropped and why, with an example each."""

from __future__ import annotations

from dataclasses import dataclass, field

REASONS = ("malformed", "empty", "too long", "debris", "ratio", "identical", "wrong language", "duplicate")


@dataclass
class CorpusAccount:
    """Counts of one corpus, in sentence pairs; an example is the first pair dropped for its reason."""

    name: str
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    examples: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def read(self) -> int:
        return self.kept + sum(self.dropped.values())

    def drop(self, reason: str, example: str, count: int = 1) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        self.examples.setdefault(reason, example)

    def summary(self) -> str:
        reasons = ", ".join(f"{self.dropped[reason]:,} {reason}" for reason in REASONS if reason in self.dropped)
        return f"{self.read:,} read, {self.kept:,} kept" + (f"; dropped: {reasons}" if reasons else "")


@dataclass
class Account:
    """``str()`` is an aligned table with the examples below."""

    corpora: list[CorpusAccount] = field(default_factory=list)

    def __str__(self) -> str:
        used = [reason for reason in REASONS if any(reason in corpus.dropped for corpus in self.corpora)]
        counts = {c.name: [c.read, c.kept, *(c.dropped.get(reason, 0) for reason in used)] for c in self.corpora}
        if len(counts) > 1:
            counts["total"] = [sum(column) for column in zip(*counts.values(), strict=True)]
        table = [["corpus", "read", "kept", *used]]
        table += [[name, *(f"{number:,}" for number in row)] for name, row in counts.items()]
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        lines = []
        for name, *numbers in table:
            cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
            lines.append("  ".join([name.ljust(widths[0]), *cells]))
        for corpus in self.corpora:
            lines += [f"{corpus.name}: {note}" for note in corpus.notes]
            lines += [
                f"{corpus.name}, {reason}: {corpus.examples[reason]}" for reason in used if reason in corpus.examples
            ]
        return "\n".join(lines)
