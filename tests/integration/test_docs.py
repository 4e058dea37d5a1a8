"""The site builds without a warning, loads nothing from elsewhere, and its reference leaves nothing out."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import lxml.html
import pytest
from serving import ROOT

from model import ModelConfig, SearchConfig
from protos.translation.v1 import translation_pb2 as pb
from service.cli import main
from service.config import ServiceConfig
from training.corpus import CorpusConfig
from training.recipe import TrainingConfig

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def text_of(page: Path) -> str:
    (article,) = lxml.html.parse(page).xpath("//article")
    return article.text_content()


def test_every_page_is_in_the_navigation(site: Path) -> None:
    links = lxml.html.parse(site / "index.html").xpath("//nav//a/@href")
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    assert pages | {Path("reference/grpc.html"), Path("reference/command-line.html")} <= {Path(link) for link in links}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        tree = lxml.html.parse(page)
        loaded = tree.xpath("//script/@src | //img/@src | //iframe/@src | //link[not(@rel='canonical')]/@href")
        assert not [address for address in loaded if re.match(r"(\w+:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_reference_has_the_whole_contract(site: Path) -> None:
    text = text_of(site / "reference" / "grpc.html")
    for message in pb.DESCRIPTOR.message_types_by_name.values():
        assert message.name in text
        assert all(field.name in text for field in message.fields), message.name
    for method in pb.DESCRIPTOR.services_by_name["TranslationService"].methods:
        assert method.name in text
    assert "ITEM_CHANGED" in text and "Required. The texts, at least one." in text


@pytest.mark.parametrize("config", [ModelConfig, SearchConfig, TrainingConfig, CorpusConfig, ServiceConfig])
def test_reference_has_every_setting(site: Path, config: type) -> None:
    page = site / "reference" / "settings.html"
    anchors = {str(anchor).split(".", 1)[1] for anchor in lxml.html.parse(page).xpath("//*[@id]/@id") if "." in anchor}
    for field in dataclasses.fields(config):
        name = f"{config.__name__}.{field.name}"
        assert any(anchor.endswith(name) for anchor in anchors), name
    assert "Live hypotheses a sentence; 1 is greedy search" in text_of(page)  # the comment of a field


def test_reference_has_every_command_and_option(site: Path) -> None:
    text = text_of(site / "reference" / "command-line.html")
    for path, command in commands(main, "nmt"):
        assert path in text
        options = [name for param in command.params if isinstance(param, click.Option) for name in param.opts]
        assert all(name in text for name in options), path


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}")
