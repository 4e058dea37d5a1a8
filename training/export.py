"""Export: the same weights as a CTranslate2 model, or as a checkpoint of a sixth of the size.

CTranslate2 reads the same pieces: source tokens are ``<2de>`` pieces ``</s>``, the decoder starts from ``<s>``.
It does not know which control symbols a translation must never hold (pass ``suppress_sequences``, if it matters)
and stops a beam by another rule, so that beams of few hypotheses may differ where scores are close.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from model import checkpoint
from model.config import ModelConfig
from model.embedding import Embedding
from model.errors import UserError
from model.transformer import DecoderLayer, EncoderDecoder, EncoderLayer
from model.vocabulary import BOS, EOS, UNK

if TYPE_CHECKING:
    from ctranslate2.specs import transformer_spec


def to_ctranslate2(checkpoint_dir: str | Path, output_dir: str | Path) -> Path:
    """Write the checkpoint as a CTranslate2 model, float32, with its ``vocabulary.model`` beside it.

    Returns ``output_dir``. UserError where CTranslate2 is not installed or the folder exists; CheckpointError for a
    bad checkpoint. Half precision or int8 is chosen on load: ``ctranslate2.Translator(path, compute_type="int8")``.
    """
    try:
        import ctranslate2  # noqa: F401 (a development dependency)
    except ImportError:
        raise UserError(
            "export needs the package ctranslate2, which is not installed; pip install ctranslate2"
        ) from None
    output = _fresh(output_dir)
    loaded = checkpoint.load(checkpoint_dir)
    if loaded.config.architecture != "encoder-decoder" or loaded.config.experts > 1:
        raise UserError(
            f"{checkpoint_dir}: the export knows encoder-decoders without experts; serve it with 'nmt serve'"
        )
    pieces = [loaded.vocabulary.piece(i) for i in range(len(loaded.vocabulary))]
    spec = _specification(cast(EncoderDecoder, loaded.model()), pieces)
    output.mkdir(parents=True)
    try:
        spec.save(str(output))
        (output / checkpoint.VOCABULARY).write_bytes(loaded.vocabulary.model)
    except OSError as error:
        shutil.rmtree(output, ignore_errors=True)
        raise UserError(f"cannot write {output}: {error.strerror}; free some space or choose another folder") from None
    return output


def to_int6(checkpoint_dir: str | Path, output_dir: str | Path, card: Path | None = None) -> Path:
    """Write the checkpoint in 6-bit integers, a sixth of the size, with the model card ``card`` or the one it has.

    Returns ``output_dir``. UserError where it exists; CheckpointError for a bad checkpoint.
    """
    output = _fresh(output_dir)
    loaded = checkpoint.load(checkpoint_dir)
    try:
        text = card.read_text(encoding="utf-8") if card else loaded.card
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the model card {card}: {error}; it must be a text file in UTF-8") from None
    checkpoint.save(output, loaded.config, loaded.weights, loaded.vocabulary, text, compact=True)
    return output


def _fresh(output_dir: str | Path) -> Path:
    if Path(output_dir).exists():
        raise UserError(f"{output_dir} exists already; remove it or choose another folder")
    return Path(output_dir)


def _specification(model: EncoderDecoder, pieces: list[str]) -> transformer_spec.TransformerSpec:
    from ctranslate2.specs import transformer_spec

    config = model.config
    encoder = transformer_spec.TransformerEncoderSpec(config.encoder_layers, config.num_heads, **_options(config))
    decoder = transformer_spec.TransformerDecoderSpec(config.decoder_layers, config.num_heads, **_options(config))
    _embedding(encoder, encoder.embeddings[0], model.source_embedding)
    _embedding(decoder, decoder.embeddings, model.target_embedding)
    for spec, encoder_layer in zip(encoder.layer, model.encoder_layers, strict=True):
        _encoder_layer(spec, cast(EncoderLayer, encoder_layer))
    for spec, decoder_layer in zip(decoder.layer, model.decoder_layers, strict=True):
        _decoder_layer(spec, cast(DecoderLayer, decoder_layer))
    if config.norm_position == "pre":
        _norm(encoder.layer_norm, cast(nn.LayerNorm, model.encoder_norm))
        _norm(decoder.layer_norm, cast(nn.LayerNorm, model.decoder_norm))
    _linear(decoder.projection, model.output)

    specification = transformer_spec.TransformerSpec(encoder, decoder)
    specification.register_source_vocabulary(pieces)
    specification.register_target_vocabulary(pieces)
    specification.config.unk_token = pieces[UNK]
    specification.config.eos_token = pieces[EOS]
    specification.config.bos_token = specification.config.decoder_start_token = pieces[BOS]
    specification.validate()
    specification.optimize()
    return specification


def _options(config: ModelConfig) -> dict[str, Any]:
    from ctranslate2.specs import common_spec

    activations = {
        "relu": common_spec.Activation.RELU,
        "gelu": common_spec.Activation.GELU,
        "swiglu": common_spec.Activation.SWISH,
    }
    return {
        "pre_norm": config.norm_position == "pre",
        "activation": activations[config.activation],
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm == "rms",
        "rotary_dim": config.head_size if config.positions == "rotary" else None,
        "rotary_interleave": False,  # our pairs are dimension i and i + D/2
    }


def _embedding(part: Any, spec: Any, embedding: Embedding) -> None:
    spec.weight = embedding.tokens.weight.detach().numpy()
    part.scale_embeddings = True  # by sqrt(d_model)
    if embedding.positions is not None:  # the table itself: CTranslate2's own sinusoids are laid out differently
        part.position_encodings.encodings = embedding.positions.detach().numpy()


def _encoder_layer(spec: Any, layer: EncoderLayer) -> None:
    attention = layer.self_attention
    _sublayer(spec.self_attention, layer.residuals[0], attention.query_key_value, attention.output)
    _feed_forward(spec.ffn, layer)


def _decoder_layer(spec: Any, layer: DecoderLayer) -> None:
    attention, cross = layer.self_attention, layer.cross_attention
    _sublayer(spec.self_attention, layer.residuals[0], attention.query_key_value, attention.output)
    _sublayer(spec.attention, layer.residuals[1], cross.query, cross.key_value, cross.output)
    _feed_forward(spec.ffn, layer)


def _sublayer(spec: Any, residual: nn.Module, *linears: nn.Linear) -> None:
    _norm(spec.layer_norm, residual.norm)  # type: ignore[arg-type]
    for target, linear in zip(spec.linear, linears, strict=True):
        _linear(target, linear)


def _feed_forward(spec: Any, layer: EncoderLayer | DecoderLayer) -> None:
    feed_forward: Any = layer.feed_forward
    _norm(spec.layer_norm, layer.residuals[-1].norm)  # type: ignore[arg-type]
    if feed_forward.gate is None:
        _linear(spec.linear_0, feed_forward.inner)
    else:
        _linear(spec.linear_0, feed_forward.gate)  # CTranslate2: activation(linear_0 x) * linear_0_noact x
        _linear(spec.linear_0_noact, feed_forward.inner)
    _linear(spec.linear_1, feed_forward.output)


def _norm(spec: Any, norm: nn.LayerNorm | nn.RMSNorm) -> None:
    spec.gamma = norm.weight.detach().numpy()
    if isinstance(norm, nn.LayerNorm):
        spec.beta = norm.bias.detach().numpy()


def _linear(spec: Any, linear: nn.Linear) -> None:
    spec.weight = linear.weight.detach().numpy()
    if linear.bias is not None:
        spec.bias = linear.bias.detach().numpy()
