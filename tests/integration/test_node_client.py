"""A client in another language (node_client/): Node's grpc-js with the proto, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from serving import FAKE_NMT, REAL_NMT, ROOT, process

FOLDER = Path(__file__).parent / "node_client"
PROTO = ROOT / "protos" / "translation" / "v1" / "translation.proto"


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for program in ("node", "npm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    folder = tmp_path_factory.mktemp("node") / "client"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=240)
    if done.returncode:
        pytest.skip(f"npm cannot install grpc-js here: {done.stderr.strip()[-300:]}")
    return folder / "client.js"


@pytest.mark.slow
@pytest.mark.parametrize("command", [FAKE_NMT, REAL_NMT], ids=["fake", "shipped"])
def test_a_client_in_another_language(script: Path, command: tuple[str, ...]) -> None:
    with process(command) as server:
        server.wait_for("serving")
        arguments = ["node", str(script), str(PROTO), server.address]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert [model["name"] for model in found["models"]["models"]] == ["fake" if command is FAKE_NMT else "en-de"]
    texts = [one["translated_text"] for one in found["translate"]["translations"]]
    assert texts[0].casefold() in ("good morning.", "guten morgen.") and texts[1] == "" and texts[2].endswith("?")
    (html,) = found["html"]["translations"]
    assert html["translated_text"].startswith("<p>") and "<b>" in html["translated_text"]
    (term,) = found["glossary"]["translations"]
    assert "ZORKWILL" in term["translated_text"] and not term["warnings"]
    assert found["refused"] == {"code": 3, "details": "target_language_code: 'xx' is not one of de, en"}
    assert found["detect"]["languages"][0]["language_code"] == "de"
    many = [answer["translations"][0]["translated_text"] for answer in found["many"]]
    assert found["stream"] == many  # each its own answer, in a stream as in a call
    assert all(str(i) in text for i, text in enumerate(many)) and len(set(many)) == 50
