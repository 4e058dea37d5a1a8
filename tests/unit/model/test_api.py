"""What `from model import ...` and `from service import ...` offer, and how a long call reports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fake_translator import FakeTranslator
from serving import ROOT, running

import model
import service
from model import SearchConfig, Translator
from service import Client


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    for package in (model, service):
        for name in package.__all__:
            assert getattr(package, name).__doc__, name
        assert sorted(dir(package)) == sorted(package.__all__)
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'Translater'"):
            _ = package.Translater


def test_packages_are_light_until_they_are_used() -> None:
    code = "import sys, model, service; from model import SearchConfig, UserError; "
    check = "assert not {'torch', 'grpc', 'sentencepiece'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, check=True, timeout=60)


def test_packages_are_marked_as_typed() -> None:
    for package in ("model", "training", "service", "protos"):
        assert (ROOT / package / "py.typed").exists()


def test_progress_of_the_library(checkpoint_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    translator, search = Translator.load(checkpoint_directory), SearchConfig(beam_size=1)
    texts = ["the cat. the dog. the cat.", "", "my house."]
    done: list[int] = []
    plain = translator.translate(texts, "en", "de", search, progress=done.append)
    assert sum(done) == 3  # sentences that differ
    assert capsys.readouterr().err == ""
    assert translator.translate(texts, "en", "de", search, progress=True) == plain
    assert "3/3" in capsys.readouterr().err
    assert translator.translate(texts, "en", "de", search, progress=False) == plain
    assert capsys.readouterr().err == ""


def test_progress_of_the_client(capsys: pytest.CaptureFixture[str]) -> None:
    with running(FakeTranslator) as server, Client(server.address) as client:
        capsys.readouterr()
        client.translate(["a", "b", "c", "d"], "en", "de", progress=True)
        assert "4/4" in capsys.readouterr().err
