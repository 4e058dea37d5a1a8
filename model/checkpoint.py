"""A checkpoint is a directory that describes itself: configuration, weights, vocabulary, model card.

Weights are safetensors, never pickle; the hashes of all files are checked on load. Saving is atomic: a reader
finds the old checkpoint or the new one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from model.config import ModelConfig, from_dict
from model.errors import CheckpointError, UserError
from model.int8 import STORED, quantise
from model.transformer import Transformer, architecture, build
from model.vocabulary import Vocabulary

FORMATS = 1, 2, 3  # that this code reads; it writes the last. The second may hold integers, the third packed ones
SCALE = ".scale"  # of a matrix of integers: a factor for each row
CONFIG, WEIGHTS, VOCABULARY, CARD = "config.json", "model.safetensors", "vocabulary.model", "MODEL_CARD.md"
RENAMES_SECONDS = 0.05  # longer than `save` is between its two renames
PRETRAINED = Path(__file__).parent / "pretrained" / "en-de"


@dataclass(frozen=True)
class Checkpoint:
    """What a directory holds. ``weights`` are float32; ``hash`` is that of the weights file."""

    config: ModelConfig
    weights: dict[str, Tensor]
    vocabulary: Vocabulary
    name: str
    hash: str
    card: str

    def model(self) -> Transformer:
        """The model in evaluation mode. CheckpointError where weights and configuration do not fit."""
        model = build(self.config)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"checkpoint {self.name}: weights do not fit its {CONFIG}: {reason}") from None
        return model.eval()


def save(
    directory: str | Path,
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    vocabulary: Vocabulary,
    card: str,
    compact: bool = False,
) -> None:
    """Write a checkpoint, replacing the one that may be there. OSError (a full disk) leaves the old one as it was.

    ``compact``: matrices in 6-bit integers with a scale for each row, in a code of Huffman's: 5.1 bits a weight, a
    sixth of the size.
    """
    directory = Path(directory)
    fresh, old = (directory.with_name(f".{directory.name}.{suffix}") for suffix in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    if old.exists() and not directory.exists():  # an earlier save was killed between its two renames
        old.rename(directory)
    fresh.mkdir(parents=True)
    try:
        tied = architecture(config).TIED[1:] if config.tie_embeddings else ()
        tensors = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in weights.items() if k not in tied}
        for name in [k for k, v in tensors.items() if compact and v.ndim > 1]:
            whole, tensors[name + SCALE] = quantise(tensors[name], STORED)
            tensors[name] = _packed(whole)
        (fresh / WEIGHTS).write_bytes(safetensors.torch.save(tensors))
        (fresh / VOCABULARY).write_bytes(vocabulary.model)
        (fresh / CARD).write_text(card, encoding="utf-8")
        description = {
            "format": FORMATS[-1],
            "model": dataclasses.asdict(config),
            "sha256": {name: _hash((fresh / name).read_bytes()) for name in (WEIGHTS, VOCABULARY, CARD)}
            | {CONFIG: _hash_config(dataclasses.asdict(config))},
        }
        (fresh / CONFIG).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        for path in fresh.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(old, ignore_errors=True)
        if directory.exists():
            directory.rename(old)
        fresh.rename(directory)
    finally:
        if old.exists() and not directory.exists():  # interrupted between the two
            old.rename(directory)
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def load(directory: str | Path) -> Checkpoint:
    """Read and verify a checkpoint; CheckpointError names the file that is missing, corrupt or too new."""
    directory = Path(directory)
    before = _stamp(directory)
    try:
        return _load(directory)
    except CheckpointError:
        if _stamp(directory) == before != b"":
            raise
        time.sleep(RENAMES_SECONDS)  # it is being replaced, or is not there
        return _load(directory)


def _stamp(directory: Path) -> bytes:
    """The configuration, which holds the hashes of all else; b"" without one."""
    try:
        return (directory / CONFIG).read_bytes()
    except OSError:
        return b""


def _load(directory: Path) -> Checkpoint:
    model_config, hashes = _read_config(directory)
    files = {name: _read(directory, name) for name in hashes}
    for name, content in files.items():
        if _hash(content) != hashes[name]:
            raise CheckpointError(
                f"checkpoint {directory}: {name} is damaged (its hash differs); restore it from a copy"
            )
    try:
        weights = safetensors.torch.load(files[WEIGHTS])
        for name in [name.removesuffix(SCALE) for name in weights if name.endswith(SCALE)]:
            scale, whole = weights.pop(name + SCALE), weights[name]
            if whole.dtype == torch.uint8:
                whole = _unpacked(whole).view(*scale.shape[:-1], -1)
            weights[name] = whole * scale
        weights = {name: weight.float() for name, weight in weights.items()}
        vocabulary, card = Vocabulary(files[VOCABULARY]), files[CARD].decode(errors="replace")
        if model_config.tie_embeddings:
            first, *others = architecture(model_config).TIED
            weights |= dict.fromkeys(others, weights[first])
    except KeyError as error:
        raise CheckpointError(f"checkpoint {directory}: it lacks {error}; restore it from a copy") from None
    except (safetensors.SafetensorError, zlib.error, RuntimeError, ValueError, UserError) as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None
    return Checkpoint(model_config, weights, vocabulary, directory.name, hashes[WEIGHTS], card)


def load_config(directory: str | Path) -> ModelConfig:
    """The configuration alone; CheckpointError as ``load``."""
    return _read_config(Path(directory))[0]


def _packed(whole: Tensor) -> Tensor:
    """Integers of 8 bits, the rarer the longer their code; small ones are the most of what a matrix holds."""
    deflate = zlib.compressobj(level=9, strategy=zlib.Z_HUFFMAN_ONLY)
    return torch.frombuffer(bytearray(deflate.compress(whole.numpy().tobytes()) + deflate.flush()), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> Tensor:
    return torch.frombuffer(bytearray(zlib.decompress(packed.numpy().tobytes())), dtype=torch.int8)


def _read_config(directory: Path) -> tuple[ModelConfig, dict[str, str]]:
    """And the hashes of the other files."""
    if not directory.is_dir():
        raise CheckpointError(f"no checkpoint at {directory}: not a directory; train one with 'nmt train'")
    if (best := directory / "best").is_dir() and not (directory / CONFIG).exists():
        raise CheckpointError(f"no checkpoint at {directory}: it is the folder of a training run; name {best}")
    try:
        description = json.loads(_read(directory, CONFIG))
        version, hashes, config = description["format"], dict(description["sha256"]), dict(description["model"])
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"checkpoint {directory}: {CONFIG} is damaged; restore it from a copy") from None
    if version not in FORMATS:
        raise CheckpointError(
            f"checkpoint {directory}: format {version}, this nmt reads up to {FORMATS[-1]}; use the nmt that wrote it"
        )
    if hashes.pop(CONFIG, None) not in (_hash_config(config), None):  # None: written before it had a hash
        raise CheckpointError(f"checkpoint {directory}: {CONFIG} is damaged (its hash differs); restore it from a copy")
    try:
        return from_dict(ModelConfig, config, f"checkpoint {directory}: {CONFIG}"), hashes
    except UserError as error:
        raise CheckpointError(f"checkpoint {directory}: {error}") from None


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        raise CheckpointError(f"checkpoint {directory}: cannot read {name}: {error.strerror}") from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _hash_config(config: Mapping[str, Any]) -> str:
    return _hash(json.dumps(config, sort_keys=True).encode())
