"""What MkDocs does beyond mkdocs.yml while it builds the site."""

from __future__ import annotations

import logging
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import commands  # noqa: E402
import contract  # noqa: E402

log = logging.getLogger("mkdocs.hooks.site")
LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#]*)[^)]*\)")


def on_config(config: Any) -> None:
    """Guides are the pages that lie directly in docs/, whoever writes one, and the results of the story."""
    (guides,) = (section for section in config.nav if isinstance(section, dict) and "Guides" in section)
    guides["Guides"] = sorted(
        path.relative_to(config.docs_dir).as_posix()
        for pattern in ("*.md", "story/*.md")
        for path in Path(config.docs_dir).glob(pattern)
        if path.name != "index.md"
    )


def on_files(files: Files, config: Any) -> Files:
    """Two pages of the reference are made from what they describe."""
    files.append(File.generated(config, "reference/grpc.md", content=contract.page()))
    files.append(File.generated(config, "reference/command-line.md", content=commands.page()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to files outside docs/ lead somewhere in the repository, but not on the site: there they are names.
    Which blocks of a tutorial the tests leave out is no news to its reader."""

    def name_only(link: re.Match[str]) -> str:
        target = ROOT / "docs" / PurePosixPath(page.file.src_uri).parent / link[2]
        if target.resolve().is_relative_to(ROOT / "docs"):
            return link[0]
        if not target.exists():
            log.warning("%s: no file %s", page.file.src_uri, link[2])
        return link[1]

    return LINK.sub(name_only, markdown).replace(' title="not run"', "")
