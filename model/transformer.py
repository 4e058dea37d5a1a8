"""The encoder-decoder transformer (Vaswani et al. 2017), in the order of the paper's figure 1, and the decoder alone.

Three verbs: ``encode`` reads the source once, ``decode_step`` writes one token a row with caches, ``score``
judges a given target. Shapes: B batch, R rows (sentences x beam), S source, T target, E d_model, V vocabulary.
A mask is boolean: True = may attend.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.attention import CrossAttention, KeyValueCache, SelfAttention, causal_mask, join_padded
from model.config import ModelConfig
from model.dropout import Dropout
from model.embedding import Embedding, Rotary
from model.experts import MixtureOfExperts, feed_forward
from model.vocabulary import BOS, PAD


@dataclass(frozen=True)
class Packing:
    """Rows that hold several pairs one after the other, blind to each other: training without padding (Krell et al.
    2021). Which pair of its row a token belongs to, from 1 on, 0 at padding; where it stands in its sentence.
    """

    source_pair: Tensor  # (B, S)
    source_position: Tensor
    target_pair: Tensor  # (B, T)
    target_position: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Packing:
        return Packing(*map(change, vars(self).values()))


def same_pair(queries: Tensor, keys: Tensor) -> Tensor:
    """Pairs of the queries (B, T) and of the keys (B, S) -> mask (B, 1, T, S)."""
    return queries[:, None, :, None] == keys[:, None, None]


Maps = list[Tensor]  # gathers attention weights, (B, H, T, S) each, where a caller wants to see them


def norm(config: ModelConfig) -> nn.Module:
    """RMS: x / rms(x) * g, without the mean and the bias of layer normalisation."""
    return nn.LayerNorm(config.d_model) if config.norm == "layer" else nn.RMSNorm(config.d_model, eps=1e-5)


def mixed(found: tuple[Tensor, Tensor], maps: Maps | None) -> Tensor:
    """What an attention layer gives; its weights go into ``maps``."""
    if maps is not None:
        maps.append(found[1])
    return found[0]


class Residual(nn.Module):
    """x + f(norm(x)), or with post-norm norm(x + f(x)): the path on which gradients reach the first layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = norm(config)
        self.dropout = Dropout(config.dropout)
        self.pre_norm = config.norm_position == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward: a layer of an encoder or, with a causal mask, of a decoder-only model."""

    def __init__(self, config: ModelConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config, rotary)
        self.feed_forward = feed_forward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(2))

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        real: Tensor | None = None,
        maps: Maps | None = None,
        keys_values: list[Tensor] | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E). ``real`` (B, T) is False at padding; ``keys_values`` and ``position`` are as of the
        attention.
        """
        x = self.residuals[0](x, lambda y: mixed(self.self_attention(y, mask, keys_values, position), maps))
        return self.residuals[1](x, lambda y: self.feed_forward(y, real))

    def step(self, x: Tensor, layer: int, state: DecoderState, longest: int) -> Tensor:
        """One token a row, (R, 1, E)."""
        cache = state.caches[layer]
        x = self.residuals[0](x, lambda y: self.self_attention.step(y, cache, state.position, longest))
        return self.residuals[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config, rotary)
        self.cross_attention = CrossAttention(config)
        self.feed_forward = feed_forward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(3))

    def forward(
        self,
        x: Tensor,
        mask: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        real: Tensor | None = None,
        maps: Maps | None = None,
        position: Tensor | None = None,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E). ``maps`` gets the weights of self-attention, then those of cross-attention."""
        keys_values = self.cross_attention.keys_values(memory)
        x = self.residuals[0](x, lambda y: mixed(self.self_attention(y, mask, position=position), maps))
        x = self.residuals[1](x, lambda y: mixed(self.cross_attention(y, *keys_values, memory_mask), maps))
        return self.residuals[2](x, lambda y: self.feed_forward(y, real))

    def step(self, x: Tensor, layer: int, state: DecoderState, longest: int) -> Tensor:
        """One token a row, (R, 1, E). The rows of one sentence share its source keys and values as its queries."""
        rows, sentences = x.shape[0], state.source_mask.shape[0]
        cache, source = state.caches[layer], state.sources[layer]

        def cross(y: Tensor) -> Tensor:
            y = y.view(sentences, rows // sentences, -1)
            return self.cross_attention(y, *source, state.source_mask[:, None, None])[0].view(rows, 1, -1)

        x = self.residuals[0](x, lambda y: self.self_attention.step(y, cache, state.position, longest))
        x = self.residuals[1](x, cross)
        return self.residuals[2](x, self.feed_forward)


@dataclass
class DecoderState:
    """What decoding remembers: ``beam`` rows for each of the sentences in the batch, side by side."""

    caches: list[KeyValueCache]  # a layer: keys and values of what the rows have written, (R, H, T, D)
    sources: list[tuple[Tensor, Tensor]]  # a layer: keys and values of the source, (R / beam, H, S, D)
    source_mask: Tensor  # (R / beam, S)
    position: Tensor  # (R,) where each row's next token stands: how many tokens are in its cache

    def select(self, rows: Tensor, sentences: Tensor | None = None) -> DecoderState:
        """Keep these rows, in this order, and these sentences (all, where absent)."""
        sources, source_mask = self.sources, self.source_mask
        if sentences is not None:
            source_mask = source_mask[sentences]
            longest = int(source_mask.sum(1).max()) if len(sentences) else 0
            sources = [(k[sentences, :, :longest], v[sentences, :, :longest]) for k, v in sources]
            source_mask = source_mask[:, :longest]
        return DecoderState([c.select(rows) for c in self.caches], sources, source_mask, self.position[rows])

    @staticmethod
    def join(first: DecoderState, second: DecoderState) -> DecoderState:
        """Both, one after the other: how a sentence joins a batch that is already decoding."""
        length = max(first.source_mask.shape[1], second.source_mask.shape[1])
        masks = [functional.pad(m, (0, length - m.shape[1])) for m in (first.source_mask, second.source_mask)]
        return DecoderState(
            [KeyValueCache.join(a, b) for a, b in zip(first.caches, second.caches, strict=True)],
            [
                (join_padded(a[0], b[0]), join_padded(a[1], b[1]))
                for a, b in zip(first.sources, second.sources, strict=True)
            ],
            torch.cat(masks),
            torch.cat((first.position, second.position)),
        )


class Transformer(nn.Module, ABC):
    """What training, search and service ask of a model. Special ids are the vocabulary's: PAD, BOS, EOS."""

    TIED: ClassVar[tuple[str, ...]]  # names of the weights that are one matrix, where embeddings are tied
    output: nn.Linear

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) padded ids -> what ``start`` wants to know of the source, and the mask of its real tokens (B, S)."""

    @abstractmethod
    def forward(self, source: Tensor, target: Tensor, packing: Packing | None = None) -> Tensor:
        """Source (B, S) and decoder input (B, T), which starts with BOS -> hidden states (B, T, E); ``output`` makes
        logits of them. ``packing``: of rows with several pairs; encoder-decoders only.
        """

    @abstractmethod
    def start(self, memory: Tensor, memory_mask: Tensor, beam_size: int) -> DecoderState:
        """The state before the first token, for ``beam_size`` rows a sentence, from what ``encode`` returns."""

    @abstractmethod
    def decode_step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """The last token of each row (R,), BOS first -> logits of the next (R, V). ``state`` moves on by one."""

    def score(self, source: Tensor, target: Tensor) -> Tensor:
        """Log-probability of each token of ``target`` (B, T), which ends with EOS; 0 at padding. (B, T) float32."""
        shifted = functional.pad(target[:, :-1], (1, 0), value=BOS)
        logits = self.output(self(source, shifted)).float()
        chosen = logits.log_softmax(-1).gather(-1, target[..., None]).squeeze(-1)
        return chosen.masked_fill(target == PAD, 0.0)

    def auxiliary_loss(self) -> Tensor | None:
        """What the mixtures of experts add to the loss a token, of the last forward in training; None without any."""
        found = [m.auxiliary for m in self.modules() if isinstance(m, MixtureOfExperts) and m.auxiliary is not None]
        return torch.stack(found).sum() if found else None

    def _finish(self, tokens: nn.Embedding) -> None:
        """The output layer, and random weights for all."""
        self.output = nn.Linear(self.config.d_model, self.config.vocab_size, bias=False)
        if self.config.tie_embeddings:
            self.output.weight = tokens.weight
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.output:
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
        if not self.config.tie_embeddings:
            nn.init.normal_(self.output.weight, std=self.config.d_model**-0.5)

    def _final_norm(self) -> nn.Module:
        """Pre-norm leaves the last residual sum unnormalised; post-norm has already normalised it."""
        return norm(self.config) if self.config.norm_position == "pre" else nn.Identity()

    def _empty_caches(self, rows: int, like: Tensor) -> list[KeyValueCache]:
        return [
            KeyValueCache.empty(rows, self.config, like.device, like.dtype) for _ in range(self.config.decoder_layers)
        ]


class EncoderDecoder(Transformer):
    """An encoder reads the source, a decoder attends to its output while it writes the target."""

    TIED = ("source_embedding.tokens.weight", "target_embedding.tokens.weight", "output.weight")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.source_embedding = Embedding(config, tokens)
        self.target_embedding = Embedding(
            config, tokens if config.tie_embeddings else nn.Embedding(config.vocab_size, config.d_model)
        )
        rotary = Rotary(config.num_positions, config.head_size) if config.positions == "rotary" else None
        self.encoder_layers = nn.ModuleList(EncoderLayer(config, rotary) for _ in range(config.encoder_layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(config, rotary) for _ in range(config.decoder_layers))
        self.encoder_norm, self.decoder_norm = self._final_norm(), self._final_norm()
        self._finish(tokens)

    def encode(self, source: Tensor, maps: Maps | None = None, packing: Packing | None = None) -> tuple[Tensor, Tensor]:
        """(B, S) padded ids -> memory (B, S, E) and the mask of its real tokens (B, S)."""
        real = source != PAD
        mask = same_pair(packing.source_pair, packing.source_pair) if packing else real[:, None, None]
        position = packing.source_position if packing else None
        x = self.source_embedding(source, position)
        for layer in self.encoder_layers:
            x = layer(x, mask, real, maps, position=position)
        return self.encoder_norm(x), real

    def decode(
        self,
        target: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        maps: Maps | None = None,
        packing: Packing | None = None,
    ) -> Tensor:
        """Teacher forcing: decoder input (B, T), which starts with BOS -> hidden states (B, T, E).

        Padding stands at the end of the target, where the causal mask already hides it from every real token.
        """
        mask, cross, position = causal_mask(target.shape[1], target.device), memory_mask[:, None, None], None
        if packing:
            mask = mask & same_pair(packing.target_pair, packing.target_pair)
            cross, position = same_pair(packing.target_pair, packing.source_pair), packing.target_position
        x = self.target_embedding(target, position)
        for layer in self.decoder_layers:
            x = layer(x, mask, memory, cross, target != PAD, maps, position)
        return self.decoder_norm(x)

    def forward(self, source: Tensor, target: Tensor, packing: Packing | None = None) -> Tensor:
        return self.decode(target, *self.encode(source, packing=packing), packing=packing)

    def start(self, memory: Tensor, memory_mask: Tensor, beam_size: int) -> DecoderState:
        rows = memory.shape[0] * beam_size
        return DecoderState(
            self._empty_caches(rows, memory),
            [cast(DecoderLayer, layer).cross_attention.keys_values(memory) for layer in self.decoder_layers],
            memory_mask,
            torch.zeros(rows, dtype=torch.long, device=memory.device),
        )

    def decode_step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        x = self.target_embedding(tokens[:, None], state.position)
        longest = int(state.position.max()) + 1
        for i, layer in enumerate(self.decoder_layers):
            x = cast(DecoderLayer, layer).step(x, i, state, longest)
        state.position = state.position + 1
        return self.output(self.decoder_norm(x)).squeeze(1)


class DecoderOnly(Transformer):
    """One stack with masked self-attention over ``source <to> target`` (Liu et al. 2018; Radford et al. 2019).

    ``<to>`` (``config.separator``) stands where a decoder's input has BOS. Each row is written without a gap between
    source and target, so that padding stands at its end, where the causal mask hides it.
    """

    TIED = ("embedding.tokens.weight", "output.weight")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embedding = Embedding(config, tokens)
        rotary = Rotary(config.num_positions, config.head_size) if config.positions == "rotary" else None
        self.decoder_layers = nn.ModuleList(EncoderLayer(config, rotary) for _ in range(config.decoder_layers))
        self.decoder_norm = self._final_norm()
        self._finish(tokens)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) padded ids -> keys and values of each layer (L, 2, B, H, S, D), the mask of real tokens (B, S)."""
        found: list[Tensor] = []
        self._run(source, keys_values=found)
        return torch.stack(found), source != PAD

    def forward(
        self, source: Tensor, target: Tensor, packing: Packing | None = None, maps: Maps | None = None
    ) -> Tensor:
        """Hidden states of the target alone; ``maps`` get the weights of the whole row (B, H, S + T, S + T)."""
        if packing:
            raise ValueError("a decoder-only model takes one pair a row")
        index = (source != PAD).sum(1, keepdim=True) + torch.arange(target.shape[1], device=target.device)  # (B, T)
        row = functional.pad(source, (0, target.shape[1]), value=PAD)
        row = row.scatter(1, index, torch.where(target == BOS, self.config.separator, target))
        x = self._run(row, maps)
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))

    def _run(self, row: Tensor, maps: Maps | None = None, keys_values: list[Tensor] | None = None) -> Tensor:
        """(B, T) ids, padding at the end -> hidden states (B, T, E)."""
        mask = causal_mask(row.shape[1], row.device)
        x = self.embedding(row)
        for layer in self.decoder_layers:
            x = layer(x, mask, row != PAD, maps, keys_values)
        return self.decoder_norm(x)

    def start(self, memory: Tensor, memory_mask: Tensor, beam_size: int) -> DecoderState:
        """The keys and values of the source are the beginning of each row's cache; its padding is overwritten."""
        caches = [KeyValueCache(*(part.repeat_interleave(beam_size, 0) for part in layer)) for layer in memory]
        return DecoderState(caches, [], memory_mask, memory_mask.sum(1).repeat_interleave(beam_size))

    def decode_step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        x = self.embedding(torch.where(tokens == BOS, self.config.separator, tokens)[:, None], state.position)
        longest = int(state.position.max()) + 1
        for i, layer in enumerate(self.decoder_layers):
            x = cast(EncoderLayer, layer).step(x, i, state, longest)
        state.position = state.position + 1
        return self.output(self.decoder_norm(x)).squeeze(1)


def architecture(config: ModelConfig) -> type[Transformer]:
    return DecoderOnly if config.architecture == "decoder-only" else EncoderDecoder


def build(config: ModelConfig) -> Transformer:
    """The model that ``config`` describes, with random weights."""
    return architecture(config)(config)
