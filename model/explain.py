"""Why a translation came out as it did: attention weights, piece by piece.

Shapes: L layers, H heads, S source pieces, T target pieces. Each row of a map sums to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.config import SearchConfig
from model.errors import UserError
from model.transformer import DecoderOnly, EncoderDecoder, Maps, Transformer
from model.vocabulary import BOS, PAD

if TYPE_CHECKING:
    from model.translator import Document, Translation, Translator

KINDS = ("encoder", "decoder", "cross")


@dataclass(frozen=True)
class Explanation:
    """``maps`` by kind: "encoder" (L, H, S, S), "decoder" (L, H, T, T) and "cross" (L, H, T, S), float32 on the CPU.

    Row t of the target is the step that reads target piece t and writes the next one. A
    decoder-only model has "decoder" alone, (L, H, S + T, S + T), over the source pieces and then the target's.
    """

    translation: Translation
    source_tokens: tuple[str, ...]  # with the tags and </s>
    target_tokens: tuple[str, ...]  # with <s>, or <to> where the decoder stands alone
    maps: dict[str, Tensor]

    def labels(self, kind: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Of the rows and of the columns of a map."""
        source, target = self.source_tokens, self.target_tokens
        if "encoder" not in self.maps:
            return source + target, source + target
        written = (*target[1:], "</s>")  # what the step looks for in the source
        return {"encoder": (source, source), "decoder": (target, target), "cross": (written, source)}[kind]


def explain(
    translator: Translator,
    text: str,
    source: str,
    target: str,
    search: SearchConfig = SearchConfig(),
    translated_text: str = "",
) -> Explanation:
    """The weights behind the model's own translation of one sentence, or behind ``translated_text``.

    UserError for a text that is not one sentence, and for languages that the model does not know.
    """
    translator.check(source, target)
    document = translator.prepare(text, source, target)
    if (count := len(document.sources)) != 1:
        raise UserError(f"the text has {count} sentences to translate; explain one at a time")
    return explanation(translator, document, translated_text or translator.translate([text], source, target, search)[0])


def explanation(translator: Translator, document: Document, translation: Translation | str) -> Explanation:
    """The weights behind the best hypothesis of a document of one sentence, or behind a text."""
    from model.translator import Hypothesis, Translation

    vocabulary, source = translator.vocabulary, document.sources[0]
    if isinstance(translation, str):
        translation = Translation((Hypothesis(translation, 0.0, (), ()),), document=document)
    best = translation.hypotheses[0]
    # What was put together from parts, or came from elsewhere, is cut into pieces anew
    target = best.parts[0] if len(best.parts) == 1 else tuple(translator.encode(best.text))
    limit = translator.config.max_length - 1
    if len(target) > limit:
        raise UserError(f"the translation has {len(target)} pieces, the model takes {limit}; shorten it")
    (maps,) = attention_maps(translator.model, [(source, target)])
    first = translator.config.separator if isinstance(translator.model, DecoderOnly) else BOS
    tokens = [tuple(map(vocabulary.piece, ids)) for ids in (source, (first, *target))]
    return Explanation(translation, tokens[0], tokens[1], maps)


@torch.inference_mode()
def attention_maps(model: Transformer, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[dict[str, Tensor]]:
    """Of each pair of encoder input and target (ids without BOS and EOS): the maps of an ``Explanation``."""
    device = next(model.parameters()).device
    sources, targets = (
        pad_sequence([torch.tensor(ids) for ids in side], batch_first=True, padding_value=PAD).to(device)
        for side in ([source for source, _ in pairs], [(BOS, *target) for _, target in pairs])
    )
    found: dict[str, Maps] = {kind: [] for kind in KINDS}
    if isinstance(model, EncoderDecoder):
        both: Maps = []
        model.decode(targets, *model.encode(sources, found["encoder"]), both)
        found["decoder"], found["cross"] = both[0::2], both[1::2]
    else:
        assert isinstance(model, DecoderOnly)
        model(sources, targets, maps=found["decoder"])
    stacked = {kind: torch.stack(layers, 1).float().cpu() for kind, layers in found.items() if layers}  # (B, L, H, ...)
    maps = []
    for i, (source, target) in enumerate(pairs):
        s, t = len(source), len(target) + 1
        if "encoder" in stacked:
            sizes = {"encoder": (s, s), "decoder": (t, t), "cross": (t, s)}
        else:
            sizes = {"decoder": (s + t, s + t)}
        maps.append({kind: stacked[kind][i, :, :, :rows, :columns] for kind, (rows, columns) in sizes.items()})
    return maps


def source_attention(maps: dict[str, Tensor], source_length: int) -> Tensor:
    """(L, H, T, S): how the target attends to the source, in either architecture; in one stack rows sum to less."""
    if "cross" in maps:
        return maps["cross"]
    return maps["decoder"][:, :, source_length:, :source_length]
