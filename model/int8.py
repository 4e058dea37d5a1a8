"""The same checkpoint in 8-bit integers on CPUs with AVX-512 VNNI, through the C++ of kernels.cpp.

Weights are rounded to 8 bits a column when the model is loaded, activations a row as they come. The library is built
with the package, where there is a C++ compiler; without it, or on another CPU, PyTorch decodes.
Shapes: B sentences, K rows (hypotheses) a sentence, C candidates, E d_model, T positions.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from model.decoder import Array, grown, inherit
from model.machine import cpu_flags
from model.transformer import EncoderDecoder, EncoderLayer, Transformer

log = logging.getLogger(__name__)

PANEL = 64  # columns that kernels.cpp takes together
STORED = 31  # the largest integer of a weight in a compact checkpoint, and the smallest is its opposite: 6 bits
MOST = 127 // STORED * STORED  # and here: a multiple, which has those exactly
VERSION = 2  # of the interface of kernels.cpp
CPU_FLAGS = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni", "fma"}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, None where they were not built or this CPU cannot run them."""
    paths = sorted(Path(__file__).parent.glob("_kernels*.so"))
    if not cpu_flags() >= CPU_FLAGS or not paths:
        return None
    try:
        kernels = ctypes.CDLL(str(paths[0]))
        version = kernels.nmt_version()
    except (OSError, AttributeError):
        version = 0
    if version != VERSION:
        log.warning("%s was built from another version of the code; install the package again", paths[0].name)
        return None
    kernels.nmt_model.restype = ctypes.c_void_p
    return kernels


def unsupported(model: Transformer) -> str:
    """Why the kernels cannot run this model here; nothing where they can."""
    config = model.config
    if library() is None:
        return "no compiled kernels for this CPU"
    plain = config.architecture == "encoder-decoder" and config.experts == 1
    if not plain or (config.norm_position, config.norm, config.activation) != ("pre", "layer", "relu"):
        return "the kernels know encoder-decoders with pre-norm, layer normalisation and ReLU, without experts"
    if config.d_model % PANEL or config.d_ff % PANEL or config.head_size % 32:
        return f"the kernels need d_model and d_ff in multiples of {PANEL}, heads of 32"
    return ""


def quantise(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Float32 (..., N, M) -> the nearest integers from -most to most and what they count, (..., N, 1). Of what they
    stand for it gives the same integers again.
    """
    scale = weight.abs().amax(-1, keepdim=True).clamp_min(1e-12) / most
    return (weight / scale).round().to(torch.int8), scale


class Int8Model:
    """The weights of a model as the kernels read them. ValueError where ``unsupported`` says so."""

    def __init__(self, model: Transformer, forbidden: Sequence[int]) -> None:
        if reason := unsupported(model):
            raise ValueError(reason)
        model = cast(EncoderDecoder, model)
        self.config = config = model.config
        self._arrays: list[Array | None] = []  # what the C++ side points to
        for embedding in (model.source_embedding, model.target_embedding):
            self._add(embedding.tokens.weight.detach().float() * embedding.scale)
            self._add(None if embedding.positions is None else embedding.positions.detach().float())
        rotary = cast(EncoderLayer, model.encoder_layers[0]).self_attention.rotary
        for table in ("cos", "sin"):
            self._add(None if rotary is None else getattr(rotary, table).float())
        for layer in model.encoder_layers:
            self._sublayers(layer, ["self_attention"])
        self._norm(model.encoder_norm)
        for layer in model.decoder_layers:
            self._sublayers(layer, ["self_attention", "cross_attention"])
        self._norm(model.decoder_norm)
        self._linear(model.output)
        banned = torch.zeros(config.vocab_size, dtype=torch.uint8)
        banned[list(forbidden)] = 1
        self._add(banned)
        numbers = [config.d_model, config.num_heads, config.d_ff, config.vocab_size]
        numbers += [config.encoder_layers, config.decoder_layers]
        kernels = library()
        assert kernels is not None
        self.kernels = kernels
        pointers = (ctypes.c_void_p * len(self._arrays))(*(None if a is None else a.ctypes.data for a in self._arrays))
        self.handle = ctypes.c_void_p(kernels.nmt_model((ctypes.c_int32 * 6)(*numbers), pointers))

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self.kernels.nmt_free(self.handle)

    def decoder(self, beam: int) -> Int8Decoder:
        return Int8Decoder(self, beam)

    def _add(self, tensor: Tensor | None) -> None:
        self._arrays.append(None if tensor is None else np.ascontiguousarray(tensor.cpu().numpy()))

    def _norm(self, norm: Any) -> None:
        self._add(norm.weight.detach().float())
        self._add(norm.bias.detach().float())

    def _sublayers(self, layer: Any, attentions: list[str]) -> None:
        for name, residual in zip(attentions, layer.residuals, strict=False):
            attention = getattr(layer, name)
            self._norm(residual.norm)
            for part in ("query_key_value",) if name == "self_attention" else ("query", "key_value"):
                self._linear(getattr(attention, part))
            self._linear(attention.output)
        self._norm(layer.residuals[-1].norm)
        self._linear(layer.feed_forward.inner)
        self._linear(layer.feed_forward.output)

    def _linear(self, linear: Any) -> None:
        """Weight (N, M) as panels of PANEL columns, each (M / 4, PANEL, 4) bytes; then scales and biases (N,)."""
        weight = linear.weight.detach().float()
        bias = torch.zeros(len(weight)) if linear.bias is None else linear.bias.detach().float()
        padding = -len(weight) % PANEL
        whole, scale = quantise(nn.functional.pad(weight.cpu(), (0, 0, 0, padding)), MOST)
        columns, inputs = whole.shape
        shifted = (whole.to(torch.int16) + 128).to(torch.uint8)
        self._add(shifted.view(columns // PANEL, PANEL, inputs // 4, 4).transpose(1, 2))
        self._add(scale)
        self._add(nn.functional.pad(bias.cpu(), (0, padding)))


class Int8Decoder:
    """A ``model.decoder.Decoder``. Caches never move: a row remembers which row wrote each of its tokens."""

    def __init__(self, model: Int8Model, beam: int) -> None:
        self.model, self.beam = model, beam
        self.memories: list[Array] = []  # a sentence: keys and values of its source for each layer, bfloat16
        self.caches: list[Array] = []  # a sentence: keys and values of what its rows wrote
        self.addresses = np.zeros((2, 0), dtype=np.int64)  # of caches and memories
        self.lengths = np.zeros((2, 0), dtype=np.int32)  # positions in a cache, tokens in a source
        self.position = np.zeros(0, dtype=np.int32)  # (B,)
        self.ancestors = np.zeros((0, beam, 0), dtype=np.uint8)  # (B, K, T) which row wrote the token at a position

    def add(self, sources: Sequence[Sequence[int]], limits: Sequence[int]) -> None:
        config, count = self.model.config, len(sources)
        width = 2 * config.d_model * config.decoder_layers
        lengths = np.array([len(source) for source in sources], dtype=np.int32)
        memories = [np.empty(length * width, dtype=np.uint16) for length in lengths]
        caches = [np.empty(limit * self.beam * width, dtype=np.uint16) for limit in limits]
        addresses = np.array([[a.ctypes.data for a in arrays] for arrays in (caches, memories)], dtype=np.int64)
        tokens = np.concatenate([np.array(source, dtype=np.int32) for source in sources])
        self.model.kernels.nmt_encode(
            self.model.handle,
            torch.get_num_threads(),
            count,
            _pointer(tokens),
            _pointer(lengths),
            _pointer(addresses[1]),
        )
        self.memories += memories
        self.caches += caches
        self.addresses = np.concatenate((self.addresses, addresses), axis=1)
        self.lengths = np.concatenate((self.lengths, np.stack((np.array(limits, dtype=np.int32), lengths))), axis=1)
        self.position = np.concatenate((self.position, np.zeros(count, dtype=np.int32)))
        self.ancestors = grown(self.ancestors, count, max(limits))

    def step(self, tokens: Array, candidates: int, wanted: Array | None = None) -> tuple[Array, Array]:
        candidates = min(candidates, self.model.config.vocab_size)
        tokens = np.ascontiguousarray(tokens, dtype=np.int32)
        values = np.empty((*tokens.shape, candidates), dtype=np.float32)
        found = np.empty(values.shape, dtype=np.int32)
        extra = np.empty((*tokens.shape, 0)) if wanted is None else wanted
        extra = np.ascontiguousarray(extra, dtype=np.int32)
        extra_values = np.full(extra.shape, -np.inf, dtype=np.float32)
        self.model.kernels.nmt_step(
            self.model.handle,
            torch.get_num_threads(),
            len(tokens),
            self.beam,
            candidates,
            _pointer(tokens),
            _pointer(self.position),
            _pointer(self.ancestors),
            self.ancestors.shape[2],
            _pointer(self.addresses[0]),
            _pointer(self.lengths[0]),
            _pointer(self.addresses[1]),
            _pointer(self.lengths[1]),
            _pointer(values),
            _pointer(found),
            extra.shape[2],
            _pointer(extra),
            _pointer(extra_values),
        )
        if wanted is not None:
            values, found = np.concatenate((values, extra_values), 2), np.concatenate((found, extra), 2)
        return values, found

    def choose(self, parents: Array) -> None:
        if self.beam > 1:
            inherit(self.ancestors, parents, int(self.position.max()))
            self.ancestors[np.arange(len(parents)), :, self.position] = parents
        self.position += 1

    def keep(self, sentences: Array) -> None:
        self.memories = [self.memories[i] for i in sentences]
        self.caches = [self.caches[i] for i in sentences]
        self.addresses = np.ascontiguousarray(self.addresses[:, sentences])
        self.lengths = np.ascontiguousarray(self.lengths[:, sentences])
        self.position, self.ancestors = self.position[sentences], self.ancestors[sentences]


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
