"""What a run leaves on disk: weights, moving average, optimiser and progress in one file, replaced atomically; and
what another run may make of its weights.

What is read back makes a resumed run equal to one that was never stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from model import checkpoint
from model.config import check
from model.errors import UserError
from model.transformer import Transformer

STATE, LOG = "state.safetensors", "log.jsonl"  # in the folder of a run


def save_state(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    progress: dict[str, Any],
) -> None:
    """``progress``: whatever else is to come back, as JSON."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for i, parameter in enumerate(model.parameters()):
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{i}.{key}"] = value
    content = safetensors.torch.save(
        {k: v.detach().cpu().clone().contiguous() for k, v in tensors.items()}, {"progress": json.dumps(progress)}
    )
    write_atomically(path, content)


def load_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fill model and optimiser; returns the moving average and the progress. UserError for a file that is damaged or
    of another architecture."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(
            f"cannot resume from {path}: {' '.join(str(error).split())[:200]}; "
            "remove it, and --resume starts again from best/"
        ) from None
    try:
        model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    except RuntimeError:
        raise UserError(
            f"cannot resume from {path}: the recipe's [model] or vocabulary is not that of this run; "
            "give it back, or choose another --out"
        ) from None
    tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
    for i, parameter in enumerate(model.parameters()):
        prefix = f"optimizer.{i}."
        optimizer.state[parameter] = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return {k[8:]: v for k, v in tensors.items() if k.startswith("average.")}, progress


def records(log: Path) -> list[dict[str, Any]]:
    """What a run has logged as JSON lines; nothing, if there is no such file."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else []:
        with contextlib.suppress(ValueError):  # of a killed run the last line may be half a record
            found.append(json.loads(line))
    return found


def forget_records_after(log: Path, step: int) -> None:
    """A killed run has logged steps that its state does not hold: they come again."""
    if log.exists():
        kept = [json.dumps(record) + "\n" for record in records(log) if record["step"] <= step]
        write_atomically(log, "".join(kept).encode())


def average_weights(directories: list[Path]) -> dict[str, Tensor]:
    """The mean of the weights of several checkpoints."""
    loaded = [checkpoint.load(directory).weights for directory in directories]
    return {name: torch.stack([weights[name] for weights in loaded]).mean(0) for name in loaded[0]}


NEW_DIMENSIONS = 0.3  # the scale at which layers begin to write to new dimensions of the residual stream, of the usual


@torch.no_grad()
def grown(small: checkpoint.Checkpoint, model: Transformer) -> dict[str, Tensor]:
    """The weights of a smaller pre-norm model for ``model``, which has more layers, wider feed-forward layers, or a
    larger d_model with more heads of the same size, and then computes what that one did: exactly, but for a larger
    d_model nearly (compare Net2Net, Chen et al. 2016). UserError for what cannot grow.

    What is new comes as it was drawn, and what was there ignores it at first. A stream of E dimensions that is padded
    with zeros to E' has sqrt(E / E') of its deviation from the mean, if its mean was zero: layers write with the mean
    taken out, norms make up for the rest.
    """
    config, before, weights = model.config, small.config, small.weights
    widens, shrunk = config.d_model != before.d_model, (before.d_model / config.d_model) ** 0.5
    same = ["architecture", "head_size", "norm_position", "norm", "positions", "tie_embeddings"]
    for name in same[: None if widens else 2]:
        old, new = getattr(before, name), getattr(config, name)
        check(old == new, f"{small.name} has another architecture: its {name} is {old}, not {new}")
    check(
        not widens or (config.norm_position == "pre" and config.positions != "sinusoidal"),
        f"{small.name} cannot grow from d_model = {before.d_model} to {config.d_model}: that takes pre-norm, and "
        "positions that are not sinusoidal",
    )
    result = dict(weights)
    for name, fresh in model.state_dict().items():
        old, part = weights.get(name), name.split(".")[-2]
        if old is None:
            result[name] = fresh * 0.0 if part == "output" else fresh
            continue
        if any(a > b for a, b in zip(old.shape, fresh.shape, strict=True)) or old.shape == fresh.shape:
            continue
        embeds = part == "tokens" or (name == "output.weight" and config.tie_embeddings)
        writes = widens and part == "output" and name != "output.weight"
        if embeds:  # the model multiplies them by the root of its width
            old = old * shrunk
        elif writes and config.norm == "layer":
            old = old - old.mean(0, keepdim=True)
        elif part.endswith("norm") and name.endswith("weight"):
            old = old * shrunk
        if part == "decoder_norm" and config.tie_embeddings:  # what it gives meets the embedding
            old = old / shrunk
        blocks = {"query_key_value": 3, "key_value": 2}.get(part, 1)  # of all heads
        new = (fresh * NEW_DIMENSIONS if embeds or writes else fresh.clone()).unflatten(0, (blocks, -1))
        old = old.unflatten(0, (blocks, -1))
        if not embeds and new.dim() == 3:
            new[:, : old.shape[1], old.shape[2] :] = 0.0
        new[tuple(map(slice, old.shape))] = old
        result[name] = new.flatten(0, 1)
    return result


def write_atomically(path: Path, content: bytes) -> None:
    """The file holds the old content or the new one, whatever happens in between."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
