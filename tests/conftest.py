"""Shared by all tests: one thread, a tiny vocabulary and a tiny checkpoint (random weights)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from samples import sentences

from model import checkpoint
from model.config import ModelConfig
from model.transformer import EncoderDecoder
from model.vocabulary import Vocabulary

# One thread here and in what the tests start: they stay out of the way of each other and of a training, and sums
# come out the same everywhere.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"
settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    """400 pieces for the words above; languages de and en."""
    return Vocabulary.train(sentences(2000), 400, ["de", "en"], threads=1)


@pytest.fixture(scope="session")
def tiny_model(vocabulary: Vocabulary) -> EncoderDecoder:
    torch.manual_seed(1)
    config = ModelConfig(
        vocab_size=len(vocabulary), d_model=32, num_heads=2, d_ff=64, encoder_layers=2, decoder_layers=1, max_length=160
    )
    return EncoderDecoder(config).eval()


@pytest.fixture(scope="session")
def checkpoint_directory(
    vocabulary: Vocabulary, tiny_model: EncoderDecoder, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A valid checkpoint whose random weights translate nothing. Do not write into it."""
    directory = tmp_path_factory.mktemp("checkpoint") / "tiny"
    checkpoint.save(directory, tiny_model.config, tiny_model.state_dict(), vocabulary, "# tiny\n")
    return directory


RECIPE = """
[model]
d_model = 32
num_heads = 2
d_ff = 64
encoder_layers = 1
decoder_layers = 1
max_length = 64

[vocabulary]
size = 340

[cleaning]
wrong_language = false

[training]
max_steps = 3
max_tokens = 60
batch_tokens = 256
warmup_steps = 20
bf16 = false # one process has one precision (Accelerate): that of the other runs in the tests

[[corpus]]
path = "train.tsv"
source = "en"
target = "de"

[[test]]
test = "test.tsv"
source = "en"
target = "de"
metrics = ["bleu", "bleu-moses"]

[[test]]
test = "test.tsv"
source = "de"
target = "en"
turned = true
"""


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe for the command line, with its corpus and test set beside it. Do not write into its folder."""
    folder = tmp_path_factory.mktemp("recipe")
    for name, count in (("train", 300), ("test", 4)):
        pairs = zip(sentences(count, count), sentences(count, count + 1), strict=True)
        (folder / f"{name}.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in pairs), encoding="utf-8")
    (folder / "tiny.toml").write_text(RECIPE, encoding="utf-8")
    return folder / "tiny.toml"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and server.pem and client.pem signed by it, each with its .key."""
    if not shutil.which("openssl"):
        pytest.skip("makes certificates with openssl, which is missing")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)

    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 1 -subj /CN=authority")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
        signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 1 -extfile names"
        openssl(f"x509 -req -in {name}.csr {signed} -out {name}.pem")
    return folder
