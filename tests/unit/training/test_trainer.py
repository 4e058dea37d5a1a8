"""What the trainer does on a GPU alone, as far as it can be seen without one."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
from torch import nn

from model.config import ModelConfig
from model.transformer import EncoderDecoder, build
from training.trainer import Trainer


@pytest.mark.parametrize(("triton", "compilers"), [(True, {"clang"}), (True, set()), (False, {"gcc"})])
def test_layers_are_compiled_where_they_can_be(
    triton: bool,
    compilers: set[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    found = object() if triton else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == "triton" else real(name))
    monkeypatch.setattr(shutil, "which", lambda name: name if name in compilers else None)
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, dynamic: compiled.append(self))
    trainer = Trainer.__new__(Trainer)
    trainer.main = True
    model = build(ModelConfig(vocab_size=20, d_model=8, num_heads=2, d_ff=8, encoder_layers=1, decoder_layers=1))
    assert isinstance(model, EncoderDecoder)
    trainer.model = model
    trainer._compile_layers()
    possible = triton and bool(compilers)
    assert compiled == ([*model.encoder_layers, *model.decoder_layers] if possible else [])
    assert ("not compiled" in capsys.readouterr().err) != possible
