"""The tutorials do what they say: the blocks of a page run in order, as one session in an empty folder.

Blocks of sh and python run; a text block behind one is what it must print, where "..." stands for anything. A block of
another kind is the file that its title names. A block with the title "not run" is only read.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT

from model.checkpoint import PRETRAINED

BLOCK = re.compile(r'^```(\w+)(?: title="([^"]*)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
PAGES = [Path("index.md"), *sorted(path.relative_to(ROOT / "docs") for path in ROOT.glob("docs/tutorials/*.md"))]
PORTS = ("50051", "9464")  # on the pages; here others, for more than one server may run on this machine


def session(page: str) -> tuple[str, list[str]]:
    """The page as one script that writes NUL behind each block, and what each block should print ("..." unsaid)."""
    script, expected = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n", []
    for kind, title, body in BLOCK.findall(page):
        if title == "not run":
            continue
        if kind == "text":
            assert expected[-1] == "...", f"two outputs of one block: {body}"
            expected[-1] = body
            continue
        runs = {"sh": body, "python": f"python - <<'END OF BLOCK'\n{body}END OF BLOCK\n"}
        script += runs[kind] if not title else f"cat > {title} <<'END OF BLOCK'\n{body}END OF BLOCK\n"
        script += "printf '\\0'\n"
        expected.append("...")
    return script, expected


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


@pytest.mark.slow
@pytest.mark.timeout(600)  # a minute at the most, where the machine has nothing else to do
@pytest.mark.skipif(not PRETRAINED.is_dir(), reason="no checkpoint in model/pretrained/")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page: Path, tmp_path: Path) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for port in PORTS:
        text = text.replace(port, free_port())
    script, expected = session(text)
    assert expected
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["timeout", "--kill-after=10", "560", "bash", "-euo", "pipefail", "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    *outputs, rest = done.stdout.split("\0")
    for output, wanted in zip(outputs, expected, strict=False):
        pattern = ".*".join(re.escape(part) for part in wanted.split("..."))
        assert re.fullmatch(pattern, output, re.DOTALL), f"printed\n{output}instead of\n{wanted}"
    logs = "".join(log.read_text(encoding="utf-8") for log in tmp_path.glob("*.log"))
    assert (done.returncode, len(outputs)) == (0, len(expected)), f"{rest}{done.stderr}{logs}"
