"""Every choice of the model and of the search, each in one frozen dataclass.

A default is written once, here. Unknown keys and impossible combinations are errors that name the way out.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from model.errors import UserError

T = TypeVar("T")
MAX_BEAM = 64
DTYPES = ("auto", "float32", "bfloat16", "int8")  # arithmetics of decoding
TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def from_dict(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``cls`` from a mapping; an unknown key is an error that names the nearest known one."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: must be a table of keys and values, not {values!r}")
    types = {field.name: str(field.type) for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = list(types)
    for key, value in values.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
            raise UserError(f"{where}: unknown key '{key}'; {hint}")
        wanted = TYPES.get(types[key], (object,))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted in (TYPES["int"], TYPES["float"])):
            raise UserError(f"{where}: {key} = {value!r} must be of type {types[key]}")
    try:
        return cls(**values)
    except TypeError as error:  # a missing required key
        raise UserError(f"{where}: {error}") from None


def check(condition: bool, message: str) -> None:
    if not condition:
        raise UserError(message)


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    check(value in choices, f"{name} = '{value}' is not one of {', '.join(choices)}")


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of the transformer ("Attention is all you need", Vaswani et al. 2017) and of its descendants."""

    architecture: str = "encoder-decoder"  # or "decoder-only": source <to> target in one masked sequence
    vocab_size: int = 8000  # pieces, language tags and control tokens included
    d_model: int = 256  # width of the residual stream
    num_heads: int = 4  # attention heads; each sees d_model / num_heads dimensions
    d_ff: int = 1024  # inner width of the feed-forward layers
    encoder_layers: int = 6  # deep encoder: runs once a sentence; 0 in a decoder-only model
    decoder_layers: int = 2  # shallow decoder: runs once a token (Kasai et al. 2021)
    norm_position: str = "pre"  # "pre" (x + f(norm(x))) or "post" (norm(x + f(x)), as in the paper)
    norm: str = "layer"  # "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019)
    positions: str = "rotary"  # "sinusoidal", "learned" or "rotary" (Su et al. 2021)
    activation: str = "relu"  # "relu", "gelu" or "swiglu" (Shazeer 2020)
    experts: int = 1  # feed-forward networks a layer, each of width d_ff; of several, a gate chooses for each token
    experts_per_token: int = 2  # how many of them a token passes through
    expert_capacity: float = 1.25  # training: tokens that an expert takes at most, as a multiple of its even share
    balance_loss: float = 0.01  # training: weight of the loss that spreads tokens over the experts
    router_z_loss: float = 0.001  # training: weight of the loss that keeps the gate's logits small
    tie_embeddings: bool = True  # one matrix for source, target and output (Press & Wolf 2017)
    dropout: float = 0.1  # on embeddings, attention weights, inner feed-forward and each residual branch
    max_length: int = 512  # longest sequence of pieces, special tokens included; longer text is split, not cut
    separator: int = 2  # decoder-only: id of the piece between source and target; training takes the vocabulary's <to>
    formality: tuple[str, ...] = ()  # target languages whose form of address the caller may choose

    def __post_init__(self) -> None:
        object.__setattr__(self, "formality", tuple(self.formality))  # a list where it was read from a file
        one_of("architecture", self.architecture, ("encoder-decoder", "decoder-only"))
        decoder_only = self.architecture == "decoder-only"
        sizes = ["vocab_size", "d_model", "num_heads", "d_ff", "decoder_layers", "max_length", "experts"]
        for name in sizes if decoder_only else [*sizes, "encoder_layers"]:
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        check(
            not decoder_only or self.encoder_layers == 0,
            f"a decoder-only model has no encoder: encoder_layers = {self.encoder_layers} must be 0",
        )
        check(
            self.d_model % self.num_heads == 0,
            f"d_model = {self.d_model} must be a multiple of num_heads = {self.num_heads}",
        )
        one_of("norm_position", self.norm_position, ("pre", "post"))
        one_of("norm", self.norm, ("layer", "rms"))
        one_of("positions", self.positions, ("sinusoidal", "learned", "rotary"))
        one_of("activation", self.activation, ("relu", "gelu", "swiglu"))
        check(
            self.experts == 1 or 1 <= self.experts_per_token <= self.experts,
            f"experts_per_token = {self.experts_per_token} must lie in 1..experts = {self.experts}",
        )
        check(self.expert_capacity > 0.0, f"expert_capacity = {self.expert_capacity} must be positive")
        for name in ("balance_loss", "router_z_loss"):
            check(getattr(self, name) >= 0.0, f"{name} = {getattr(self, name)} must not be negative")
        check(
            0 <= self.separator < self.vocab_size,
            f"separator = {self.separator} is no id of a vocabulary of {self.vocab_size}",
        )
        check(0.0 <= self.dropout < 1.0, f"dropout = {self.dropout} must lie in [0, 1)")
        even = self.d_model if self.positions == "sinusoidal" else self.head_size
        check(
            self.positions == "learned" or even % 2 == 0,
            f"{self.positions} positions need an even width, not {even}",
        )

    @property
    def head_size(self) -> int:
        return self.d_model // self.num_heads

    @property
    def num_positions(self) -> int:
        """Positions that the longest sequence takes: source and target stand in one where there is only a decoder."""
        return self.max_length * (2 if self.architecture == "decoder-only" else 1)


@dataclass(frozen=True)
class SearchConfig:
    """How hypotheses are searched for, ranked and how many are kept."""

    beam_size: int = 5  # live hypotheses a sentence; 1 is greedy search
    nbest: int = 1  # hypotheses returned a sentence, at most beam_size (or any number when sampling)
    length_penalty: float = 1.0  # score = log-probability / length ** length_penalty
    max_length_ratio: float = 1.5  # a hypothesis ends after ratio * source pieces + max_length_offset pieces
    max_length_offset: int = 10
    exact: bool = False  # beam search: give up no hypothesis that could still win, however unlikely; slower
    sampling: bool = False  # draw tokens instead of maximising
    temperature: float = 1.0  # sampling only: below 1 sharpens, above 1 flattens
    top_k: int = 0  # sampling only: draw from the k likeliest tokens; 0 draws from all
    seed: int = 0  # sampling only: the same seed gives the same draws for the same sentence

    @property
    def rows(self) -> int:
        """Hypotheses that a sentence has under way."""
        return self.nbest if self.sampling else self.beam_size

    def score(self, token_scores: Sequence[float]) -> float:
        """Of a finished hypothesis, from the log-probabilities of its tokens (natural logarithm); 0 without any."""
        return sum(token_scores) / len(token_scores) ** self.length_penalty if token_scores else 0.0

    def __post_init__(self) -> None:
        check(1 <= self.beam_size <= MAX_BEAM, f"beam_size = {self.beam_size} must lie in 1..{MAX_BEAM}")
        check(1 <= self.nbest <= MAX_BEAM, f"nbest = {self.nbest} must lie in 1..{MAX_BEAM}")
        check(
            self.sampling or self.nbest <= self.beam_size,
            f"nbest = {self.nbest} needs a beam_size of at least {self.nbest}, not {self.beam_size}",
        )
        check(0.0 <= self.length_penalty <= 10.0, f"length_penalty = {self.length_penalty} must lie in [0, 10]")
        check(0.0 < self.max_length_ratio <= 10.0, f"max_length_ratio = {self.max_length_ratio} must lie in (0, 10]")
        check(0 <= self.max_length_offset <= 1000, f"max_length_offset = {self.max_length_offset} must lie in 0..1000")
        check(0.001 <= self.temperature <= 100.0, f"temperature = {self.temperature} must lie in 0.001..100")
        check(0 <= self.seed < 2**63, f"seed = {self.seed} must lie in 0..2^63 - 1")
        check(0 <= self.top_k < 2**31, f"top_k = {self.top_k} must lie in 0..2^31 - 1")
        check(
            not self.sampling or self.beam_size == 1,
            f"sampling draws one token at a time: beam_size must be 1, not {self.beam_size}",
        )
