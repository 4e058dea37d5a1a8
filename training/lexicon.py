"""The useful part of a dictionary: ``python -m training.lexicon LEXICON.tsv CORPUS.tsv... -o OUT.tsv [--common]``.

A large dictionary lists many translations of a word, most of them rare or of another trade; a model that sees entries
drawn at random learns few of the words that people use. This keeps the entries whose words the corpora use on both
sides, and of the translations of one source those that stand beside it in sentence pairs most reliably. ``--common``:
of these, the words and pairs of words that are common in the language at large, whatever the corpora talk about (needs
``pip install wordfreq``).
"""

from __future__ import annotations

import argparse
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from training.corpus import CorpusConfig
from training.readers import read
from training.script import run

Pair = tuple[str, str]
WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
LONGEST = 4  # words of an entry: longer ones are explanations
KEPT = 2  # translations of a source, at most
SHARE = 0.3  # of the best translation's association that another must have
COMMON = 3.0, 2.5  # Zipf frequency of the rarest word of a source and of a target, at least
COMMON_LONGEST = 2  # words


def useful_entries(entries: Iterable[Pair], corpus: Sequence[Pair]) -> Iterator[Pair]:
    """The entries to keep, in their order.

    Association is the Dice coefficient 2 n(s, t) / (n(s) + n(t)) over sentence pairs, where an entry's side counts
    as present when all its words are. A source none of whose translations ever stands beside it keeps the one whose
    rarest word is the most frequent.
    """
    source_uses, target_uses = (Counter(word for pair in corpus for word in _words(pair[side])) for side in (0, 1))
    translations: dict[frozenset[str], dict[frozenset[str], int]] = defaultdict(dict)  # to how often both are there
    usable: list[tuple[Pair, frozenset[str], frozenset[str]]] = []
    for entry in entries:
        source, target = map(_words, entry)
        if not source or not target or max(map(len, (source, target))) > LONGEST:
            continue
        if all(source_uses[word] for word in source) and all(target_uses[word] for word in target):
            usable.append((entry, source, target))
            translations[source][target] = 0
    by_word: dict[str, list[frozenset[str]]] = defaultdict(list)  # sources, by their rarest word
    for source in translations:
        by_word[min(source, key=source_uses.__getitem__)].append(source)
    alone: Counter[tuple[int, frozenset[str]]] = Counter()  # (side, words): sentences that hold all of them
    for pair in corpus:
        here, there = map(_words, pair)
        for word in here & by_word.keys():
            for source in by_word[word]:
                if source <= here:
                    alone[0, source] += 1
                    for target in translations[source]:
                        translations[source][target] += target <= there
    kept: dict[frozenset[str], set[frozenset[str]]] = {}
    for source, together in translations.items():
        association = {
            target: 2.0 * count / (alone[0, source] + min(target_uses[word] for word in target))
            for target, count in together.items()
        }
        best = sorted(association, key=association.__getitem__, reverse=True)[:KEPT]
        if association[best[0]] == 0.0:
            best = [max(together, key=lambda target: min(target_uses[word] for word in target))]
        kept[source] = {target for target in best if association[target] >= SHARE * association[best[0]]}
    seen: set[tuple[frozenset[str], frozenset[str]]] = set()
    for entry, source, target in usable:
        if target in kept[source] and (source, target) not in seen:
            seen.add((source, target))
            yield entry


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in WORD.findall(text)) - {"to"}  # "to go": gehen


def common(text: str, language: str) -> float:
    """How frequent the rarest word of a text is in the language at large, on the Zipf scale: 3 is once a million words,
    4 ten times as often; 0 for what is no word.
    """
    from wordfreq import zipf_frequency

    return min((zipf_frequency(word, language) for word in WORD.findall(text)), default=0.0)


def common_entries(entries: Iterable[Pair], source: str, target: str) -> Iterator[Pair]:
    """The short entries whose words are all common in their language; ``source`` and ``target`` are its codes."""
    for entry in entries:
        short = max(len(side.split()) for side in entry) <= COMMON_LONGEST
        if short and common(entry[0], source) >= COMMON[0] and common(entry[1], target) >= COMMON[1]:
            yield entry


def pairs(path: Path) -> Iterator[Pair]:
    """Of a corpus file, as ``nmt train`` reads it; lines that it cannot read are left out."""
    config = CorpusConfig(path=str(path), source="source", target="target")
    return ((record.source, record.target) for record in read(config, Path()) if not record.problem)


def write_pairs(path: Path, found: Iterable[Pair]) -> int:
    """A corpus file that ``pairs`` reads, in a folder that is made where it is missing; returns the number of pairs.

    Each is written when it is found, beside ``path`` until all are there: what is stopped keeps what it has.
    """
    path, count = path.resolve(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    is_file = path.is_file() or not path.exists()
    partial = path.with_name(f"{path.name}.partial") if is_file else path  # a pipe or a folder, which open() refuses
    with open(partial, "w", encoding="utf-8", buffering=1) as file:
        for source, target in found:
            file.write(f"{source}\t{target}\n")
            count += 1
    if is_file:
        partial.replace(path)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lexicon", type=Path)
    parser.add_argument("corpora", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--common", action="store_true")
    parser.add_argument("--from", dest="source", default="en", help="with --common")
    parser.add_argument("--to", dest="target", default="de", help="with --common")
    choice = parser.parse_args()
    corpus = [pair for path in choice.corpora for pair in pairs(path)]
    entries = list(pairs(choice.lexicon))
    found = list(useful_entries(entries, corpus))
    if choice.common:
        found = list(common_entries(found, choice.source, choice.target))
    write_pairs(choice.output, found)
    print(f"{len(found):,} of {len(entries):,} entries are in {choice.output}")


if __name__ == "__main__":
    run(main)
