from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from model import checkpoint, int8
from model.checkpoint import CARD, CONFIG, VOCABULARY, WEIGHTS
from model.config import ModelConfig
from model.errors import CheckpointError
from model.int8 import quantise
from model.transformer import EncoderDecoder
from model.vocabulary import Vocabulary

FILES = [CONFIG, WEIGHTS, VOCABULARY, CARD]


def make(vocabulary: Vocabulary, **choices: Any) -> EncoderDecoder:
    return EncoderDecoder(
        ModelConfig(
            vocab_size=len(vocabulary), d_model=8, num_heads=2, d_ff=16, encoder_layers=1, decoder_layers=1, **choices
        )
    ).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("compact", [False, True])
def test_round_trip(tmp_path: Path, vocabulary: Vocabulary, tied: bool, positions: str, compact: bool) -> None:
    model = make(vocabulary, tie_embeddings=tied, positions=positions)
    checkpoint.save(tmp_path / "run" / "best", model.config, model.state_dict(), vocabulary, "# card ä\n", compact)
    loaded = checkpoint.load(tmp_path / "run" / "best")
    assert loaded.config == model.config
    assert loaded.vocabulary.model == vocabulary.model
    assert loaded.name == "best"
    assert (tmp_path / "run" / "best" / CARD).read_text(encoding="utf-8") == "# card ä\n"
    assert loaded.weights.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert loaded.weights[name].dtype == torch.float32
        if not compact or weight.ndim == 1:
            assert torch.equal(loaded.weights[name], weight)
        else:
            step = weight.abs().amax(-1, keepdim=True) / 31
            assert torch.all((loaded.weights[name] - weight).abs() <= 0.501 * step)
            whole = quantise(weight, 31)[0]
            assert torch.equal(quantise(loaded.weights[name], 31)[0], whole)
            assert torch.equal(quantise(loaded.weights[name], int8.MOST)[0], 4 * whole)  # as the kernels take them
    restored = loaded.model()
    assert not restored.training
    assert (restored.output.weight is restored.source_embedding.tokens.weight) == tied
    source, target = torch.tensor([[4, 20, 21, 3]]), torch.tensor([[30, 31, 3]])
    tolerance = 0.4 if compact else 0
    torch.testing.assert_close(
        restored.score(source, target), model.score(source, target), atol=tolerance, rtol=tolerance
    )


def test_a_tied_matrix_is_stored_once_and_integers_take_a_sixth_of_the_size(
    tmp_path: Path, vocabulary: Vocabulary
) -> None:
    config = ModelConfig(vocab_size=len(vocabulary), d_model=256, d_ff=256, encoder_layers=1, decoder_layers=1)
    model = EncoderDecoder(config)
    for parameter in model.parameters():  # as after training: most weights are small
        torch.nn.init.normal_(parameter)
    for name, compact in (("floats", False), ("integers", True)):
        checkpoint.save(tmp_path / name, config, model.state_dict(), vocabulary, "", compact)
    stored = safetensors.torch.load_file(tmp_path / "floats" / WEIGHTS)
    assert sum(weight.numel() for weight in stored.values()) == sum(p.numel() for p in model.parameters())
    sizes = [(tmp_path / name / WEIGHTS).stat().st_size for name in ("floats", "integers")]
    assert sizes[1] == pytest.approx(sizes[0] / 6, rel=0.2)


def test_integers_that_are_not_packed_are_read_as_well(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """As the second format has them."""
    model = make(vocabulary)
    checkpoint.save(tmp_path / "old", model.config, model.state_dict(), vocabulary, "")
    path, name = tmp_path / "old" / WEIGHTS, "encoder_layers.0.feed_forward.inner.weight"
    tensors = safetensors.torch.load_file(path)
    tensors[name], tensors[f"{name}.scale"] = quantise(tensors[name], 127)
    safetensors.torch.save_file(tensors, path)

    def second(description: dict[str, Any]) -> None:
        description["format"] = 2
        description["sha256"][WEIGHTS] = hashlib.sha256(path.read_bytes()).hexdigest()

    rewrite(tmp_path / "old", second)
    weight, loaded = model.state_dict()[name], checkpoint.load(tmp_path / "old").weights[name]
    torch.testing.assert_close(loaded, weight, atol=float(weight.abs().max()) / 250, rtol=0)


def test_a_checkpoint_between_the_two_renames_of_a_save_is_waited_for(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.rename(tmp_path / ".fresh")
    monkeypatch.setattr("model.checkpoint.time.sleep", lambda seconds: (tmp_path / ".fresh").rename(copy))
    assert checkpoint.load(copy).name == copy.name


def test_a_checkpoint_that_is_replaced_while_it_is_read(
    copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = Path(shutil.copytree(copy, tmp_path / "next"))
    loaded = checkpoint.load(copy)
    checkpoint.save(new, loaded.config, {k: v + 1 for k, v in loaded.weights.items()}, loaded.vocabulary, "new")
    read, swapped = checkpoint._read, []

    def replaced_after_its_config(directory: Path, name: str) -> bytes:
        content = read(directory, name)
        if name == CONFIG and not swapped:
            swapped.append(copy.rename(tmp_path / "old"))
            new.rename(copy)
        return content

    monkeypatch.setattr(checkpoint, "_read", replaced_after_its_config)
    assert checkpoint.load(copy).card == "new"


def test_a_save_that_is_interrupted_between_its_renames_leaves_the_old_one(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, rename = checkpoint.load(copy), Path.rename

    def interrupt(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(copy, loaded.config, loaded.weights, loaded.vocabulary, "new")
    assert checkpoint.load(copy).card == loaded.card


@pytest.fixture
def copy(checkpoint_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint_directory, tmp_path / "copy"))


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_noticed(copy: Path, name: str) -> None:
    original = (copy / name).read_bytes()
    step = max(1, len(original) // (400 if name == CONFIG else 5))
    before = checkpoint.load(copy)
    for place in range(0, len(original), step):
        damaged = bytearray(original)
        damaged[place] ^= 1
        (copy / name).write_bytes(damaged)
        try:
            loaded = checkpoint.load(copy)
        except CheckpointError as error:
            assert "\n" not in str(error)
        else:  # white space in the JSON, or an equal spelling of a number
            assert name == CONFIG
            assert (loaded.config, loaded.hash) == (before.config, before.hash)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_named(copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    for length in (0, len(content) // 2, len(content) - 2):
        (copy / name).write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=name):
            checkpoint.load(copy)
    (copy / name).unlink()
    with pytest.raises(CheckpointError, match=f"cannot read {name}"):
        checkpoint.load(copy)


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="not a directory"):
        checkpoint.load(tmp_path / "file")
    (tmp_path / "run" / "best").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"folder of a training run; name .*run/best"):
        checkpoint.load(tmp_path / "run")


def rewrite(directory: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Edit config.json as another version of nmt might have written it."""
    description = json.loads((directory / CONFIG).read_text())
    change(description)
    description["sha256"].pop(CONFIG, None)
    (directory / CONFIG).write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda d: d.update(format=4), "format 4, this nmt reads up to 3"),
        (lambda d: d["model"].update(num_head=2), "unknown key 'num_head'; did you mean 'num_heads'"),
        (lambda d: d["model"].update(num_heads=5), "multiple of num_heads"),
        (lambda d: d["model"].update(num_heads="2"), "num_heads"),
        (lambda d: d.update(model=[1]), "damaged"),
        (lambda d: d["sha256"].pop(WEIGHTS), WEIGHTS),
        (lambda d: d["sha256"].pop(VOCABULARY), VOCABULARY),
    ],
)
def test_a_config_that_does_not_fit_is_one_clear_line(
    copy: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    rewrite(copy, change)
    with pytest.raises(CheckpointError, match=named) as error:
        checkpoint.load(copy)
    assert "\n" not in str(error.value)


def test_weights_of_another_architecture_are_one_clear_line(copy: Path) -> None:
    rewrite(copy, lambda d: d["model"].update(d_model=64))
    with pytest.raises(CheckpointError, match="weights do not fit") as error:
        checkpoint.load(copy).model()
    assert "\n" not in str(error.value)


def test_saving_replaces_and_leaves_nothing_behind(
    tmp_path: Path, vocabulary: Vocabulary, tiny_model: EncoderDecoder
) -> None:
    for card in ("first", "second"):
        checkpoint.save(tmp_path / "c", tiny_model.config, tiny_model.state_dict(), vocabulary, card)
    assert (tmp_path / "c" / CARD).read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c"]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("failing", ["write_bytes", "write_text", "fsync", "rename"])
def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, vocabulary: Vocabulary, tiny_model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    directory = tmp_path / "c"
    checkpoint.save(directory, tiny_model.config, tiny_model.state_dict(), vocabulary, "old")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    rename = Path.rename

    def full(*args: Any, **kwargs: Any) -> Any:
        if failing == "rename" and ".new" not in args[0].name:
            return rename(*args, **kwargs)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(directory, make(vocabulary).config, make(vocabulary).state_dict(), vocabulary, "new")
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    checkpoint.load(directory)
