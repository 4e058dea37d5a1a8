"""The encoder-decoder transformer (Vaswani et al. 2017), in the order of the paper's figure 1.

Three verbs: ``encode`` reads the source once, ``decode_step`` writes one token a row with caches, ``score``
judges a given target. Shapes: B batch, R rows (sentences x beam), S source, T target, E d_model, V vocabulary.
A mask is boolean: True = may attend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.attention import CrossAttention, KeyValueCache, SelfAttention, causal_mask, join_padded
from model.config import ModelConfig
from model.dropout import Dropout
from model.embedding import Embedding, Rotary
from model.feedforward import FeedForward
from model.vocabulary import BOS, PAD


class Residual(nn.Module):
    """x + f(norm(x)), or with post-norm norm(x + f(x)): the path on which gradients reach the first layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.d_model)
        self.dropout = Dropout(config.dropout)
        self.pre_norm = config.norm_position == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre_norm:
            return x + self.dropout(sublayer(self.norm(x)))
        return self.norm(x + self.dropout(sublayer(x)))


class EncoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config, rotary)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.residuals[0](x, lambda y: self.self_attention(y, mask)[0])
        return self.residuals[1](x, self.feed_forward)


class DecoderLayer(nn.Module):
    def __init__(self, config: ModelConfig, rotary: Rotary | None) -> None:
        super().__init__()
        self.self_attention = SelfAttention(config, rotary)
        self.cross_attention = CrossAttention(config)
        self.feed_forward = FeedForward(config)
        self.residuals = nn.ModuleList(Residual(config) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        keys_values = self.cross_attention.keys_values(memory)
        x = self.residuals[0](x, lambda y: self.self_attention(y, mask)[0])
        x = self.residuals[1](x, lambda y: self.cross_attention(y, *keys_values, memory_mask)[0])
        return self.residuals[2](x, self.feed_forward)

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
    position: Tensor  # (R,) tokens that each row has written

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


class EncoderDecoder(nn.Module):
    """Source ids to target distributions. Special ids are the vocabulary's: PAD, BOS, EOS."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.source_embedding = Embedding(config, tokens)
        self.target_embedding = Embedding(
            config, tokens if config.tie_embeddings else nn.Embedding(config.vocab_size, config.d_model)
        )
        rotary = Rotary(config.max_length, config.head_size) if config.positions == "rotary" else None
        self.encoder_layers = nn.ModuleList(EncoderLayer(config, rotary) for _ in range(config.encoder_layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(config, rotary) for _ in range(config.decoder_layers))
        # Pre-norm leaves the last residual sum unnormalised; post-norm has already normalised it.
        final = nn.LayerNorm if config.norm_position == "pre" else nn.Identity
        self.encoder_norm, self.decoder_norm = final(config.d_model), final(config.d_model)
        self.output = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.output.weight = tokens.weight
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.output:
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.d_model**-0.5)
        if not self.config.tie_embeddings:
            nn.init.normal_(self.output.weight, std=self.config.d_model**-0.5)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S) padded ids -> memory (B, S, E) and the mask of its real tokens (B, S)."""
        mask = source != PAD
        x = self.source_embedding(source)
        for layer in self.encoder_layers:
            x = layer(x, mask[:, None, None])
        return self.encoder_norm(x), mask

    def decode(self, target: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Teacher forcing: decoder input (B, T), which starts with BOS -> hidden states (B, T, E).

        Padding stands at the end of the target, where the causal mask already hides it from every real token.
        """
        mask = causal_mask(target.shape[1], target.device)
        x = self.target_embedding(target)
        for layer in self.decoder_layers:
            x = layer(x, mask, memory, memory_mask[:, None, None])
        return self.decoder_norm(x)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Source (B, S) and decoder input (B, T) -> hidden states (B, T, E); ``output`` makes logits of them."""
        return self.decode(target, *self.encode(source))

    def score(self, source: Tensor, target: Tensor) -> Tensor:
        """Log-probability of each token of ``target`` (B, T), which ends with EOS; 0 at padding. (B, T) float32."""
        shifted = functional.pad(target[:, :-1], (1, 0), value=BOS)
        logits = self.output(self(source, shifted)).float()
        chosen = logits.log_softmax(-1).gather(-1, target[..., None]).squeeze(-1)
        return chosen.masked_fill(target == PAD, 0.0)

    def start(self, memory: Tensor, memory_mask: Tensor, beam_size: int) -> DecoderState:
        """The state before the first token, for ``beam_size`` rows a sentence."""
        rows = memory.shape[0] * beam_size
        return DecoderState(
            [KeyValueCache.empty(rows, self.config, memory.device, memory.dtype) for _ in self.decoder_layers],
            [cast(DecoderLayer, layer).cross_attention.keys_values(memory) for layer in self.decoder_layers],
            memory_mask,
            torch.zeros(rows, dtype=torch.long, device=memory.device),
        )

    def decode_step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """The last token of each row (R,), BOS first -> logits of the next (R, V). ``state`` moves on by one."""
        x = self.target_embedding(tokens[:, None], state.position)
        longest = int(state.position.max()) + 1
        for i, layer in enumerate(self.decoder_layers):
            x = cast(DecoderLayer, layer).step(x, i, state, longest)
        state.position = state.position + 1
        return self.output(self.decoder_norm(x)).squeeze(1)
