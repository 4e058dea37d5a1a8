"""Text to pieces and back: SentencePiece with byte fallback, language tags and special tokens.

Any Unicode text survives encode -> decode unchanged, and no text can become a control token: tags such as
``<2de>`` are SentencePiece control symbols, which its encoder never produces from text.
"""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sentencepiece

from model.errors import CheckpointError, UserError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
# Present in every vocabulary, since a trained one cannot grow: the form of address, the separator of the
# decoder-only model, and a few for uses still to be found.
SEPARATOR = "<to>"
CONTROL_SYMBOLS = ("<formal>", "<informal>", SEPARATOR, *(f"<reserved{i}>" for i in range(8)))
FORMALITIES = ("default", "formal", "informal")  # the form of address: as the sentence suggests, "Sie", "du"
SPACE_MARK = "\u2581"  # SentencePiece writes a space as this character
NONCHARACTERS = [chr(c) for c in range(0xFDD0, 0xFDF0)]  # never text by definition: free as placeholders

Phrase = tuple[tuple[int, ...], ...]  # the ways to write some words in pieces; one of them is enough


@dataclass(frozen=True)
class Edges:
    """(V,) each: whether a piece begins, whether it ends, within a word."""

    begins_inside: np.ndarray
    ends_inside: np.ndarray


class Vocabulary:
    """SentencePiece model plus the meaning of its special ids."""

    def __init__(self, model: bytes) -> None:
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise CheckpointError(f"not a SentencePiece model: {error}") from None
        self._model = model
        tags = (re.fullmatch(r"<2([a-zA-Z-]+)>", self.piece(i)) for i in range(len(self)) if self.is_control(i))
        self.languages: tuple[str, ...] = tuple(sorted(tag.group(1) for tag in tags if tag))
        self._space_mark_bytes = self._bytes(SPACE_MARK)

    @staticmethod
    def train(lines: Iterable[str], size: int, languages: Sequence[str], threads: int = 2) -> Vocabulary:
        """Train a byte-pair encoding (Sennrich et al. 2016) of ``size`` pieces, special tokens included.

        Raises UserError where the text is too small for the size, or the size for its characters.
        """
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=model,
                vocab_size=size,
                model_type="bpe",
                byte_fallback=True,  # an unseen character becomes its UTF-8 bytes: nothing is unknown
                character_coverage=0.9998,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                split_digits=True,  # numbers are copied digit by digit
                control_symbols=[f"<2{language}>" for language in languages] + list(CONTROL_SYMBOLS),
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                max_sentence_length=16384,
                num_threads=threads,
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
            other = "larger" if "required_chars" in reason else "smaller"
            raise UserError(f"cannot train a vocabulary of {size} pieces: {reason}; use a {other} size") from None
        return Vocabulary(model.getvalue())

    @staticmethod
    def load(path: str | Path) -> Vocabulary:
        try:
            return Vocabulary(Path(path).read_bytes())
        except OSError as error:
            raise CheckpointError(f"cannot read the vocabulary {path}: {error.strerror}") from None

    @property
    def model(self) -> bytes:
        """The SentencePiece model, as stored in a checkpoint."""
        return self._model

    def __len__(self) -> int:
        return self._processor.get_piece_size()

    def piece(self, id: int) -> str:
        return self._processor.id_to_piece(id)

    def id(self, piece: str) -> int:
        return self._processor.piece_to_id(piece)

    def is_control(self, id: int) -> bool:
        return self._processor.is_control(id)

    @functools.cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that stand for no text."""
        return frozenset(i for i in range(len(self)) if i == UNK or self.is_control(i))

    @functools.cached_property
    def characters(self) -> frozenset[str]:
        """Those that have pieces; of all others the model reads and writes the bytes."""
        ordinary = (i for i in range(len(self)) if i not in self._silent and not self._processor.is_byte(i))
        return frozenset("".join(map(self.piece, ordinary)))

    @functools.cached_property
    def unwritable(self) -> list[int]:
        """Ids that a translation never holds: every special token but EOS, which ends it."""
        return sorted(self._silent - {EOS})

    @functools.cached_property
    def edges(self) -> Edges:
        """Where the pieces lie in words. A byte may be part of a letter, so it counts as one."""
        texts = [self.piece(i) for i in range(len(self))]
        byte = [bool(re.fullmatch("<0x..>", text)) for text in texts]
        inside = [[is_byte or text[at].isalnum() for text, is_byte in zip(texts, byte, strict=True)] for at in (0, -1)]
        return Edges(*(np.array(edge) for edge in inside))

    def phrase(self, text: str) -> Phrase:
        """The ways to write a text as a word of its own: after a space, and after a quotation mark and the like."""
        opening = self.encode('"')
        quoted = self.encode('"' + text)
        forms = [self.encode(text)] + [quoted[len(opening) :]] * (quoted[: len(opening)] == opening)
        return tuple(dict.fromkeys(map(tuple, forms)))

    def tag(self, language: str) -> int:
        """Id of the tag that asks for ``language``; UserError for a language that the vocabulary lacks."""
        if language not in self.languages:
            raise UserError(f"unknown language '{language}'; this model knows {', '.join(self.languages)}")
        return self.id(f"<2{language}>")

    def encode(self, text: str, bpe_dropout: float = 0.0) -> list[int]:
        """Ids of the pieces of ``text``. ``bpe_dropout`` skips merges at random (Provilkov et al. 2020)."""
        marked = SPACE_MARK in text
        placeholder = ""
        if marked:  # the literal character would come back as a space: encode it as its bytes
            placeholder = next((c for c in NONCHARACTERS if c not in text), "")
            if not placeholder:
                raise UserError("text holds U+2581 and all 32 noncharacters U+FDD0..U+FDEF; remove one of them")
            text = text.replace(SPACE_MARK, placeholder)
        try:
            ids = (
                self._processor.encode(text, enable_sampling=True, alpha=bpe_dropout, nbest_size=-1)
                if bpe_dropout
                else self._processor.encode(text)
            )
        except RuntimeError:
            raise UserError("text holds half a surrogate pair, which is no character; remove it") from None
        return _replace(ids, self._bytes(placeholder), self._space_mark_bytes) if marked else ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the pieces; special tokens are left out, bytes that are no UTF-8 become U+FFFD."""
        silent = self._silent
        return self._processor.decode([id for id in ids if id not in silent])

    def source_ids(
        self, text: str, target_language: str, formality: str = "default", bpe_dropout: float = 0.0
    ) -> list[int]:
        """Encoder input: the tag of the wanted language (Johnson et al. 2017), that of the form of address unless it
        is "default" (Sennrich et al. 2016, "Controlling politeness"), the pieces, ``</s>``.
        """
        return [*self.prefix(target_language, formality), *self.encode(text, bpe_dropout), EOS]

    def prefix(self, target_language: str, formality: str = "default") -> list[int]:
        """The tags that ``source_ids`` begins with."""
        form = [] if formality == "default" else [self.id(f"<{formality}>")]
        return [self.tag(target_language), *form]

    def target_ids(self, text: str, bpe_dropout: float = 0.0) -> list[int]:
        """What the decoder predicts: the pieces and ``</s>``; its input is the same, shifted right by ``<s>``."""
        return [*self.encode(text, bpe_dropout), EOS]

    def seed(self, seed: int) -> None:
        """Seed the draws of ``bpe_dropout`` (SentencePiece keeps one generator a process)."""
        sentencepiece.set_random_generator_seed(seed)

    def _bytes(self, character: str) -> list[int]:
        return [self.id(f"<0x{byte:02X}>") for byte in character.encode()]


def _replace(ids: list[int], old: list[int], new: list[int]) -> list[int]:
    result, i = [], 0
    while i < len(ids):
        if ids[i : i + len(old)] == old:
            result += new
            i += len(old)
        else:
            result.append(ids[i])
            i += 1
    return result
