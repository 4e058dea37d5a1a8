"""`nmt translate` as a process, with a stand-in for the model and with the shipped one."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from fake_translator import module
from serving import FAKE_NMT, REAL_NMT, ROOT, process

from service.cli import main

EN_DE = ("translate", "--from", "en", "--to", "de")
shipped = pytest.mark.skipif(
    not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
)
either = pytest.mark.parametrize("nmt", [FAKE_NMT, pytest.param(REAL_NMT, marks=shipped)], ids=["fake", "shipped"])


def run(nmt: Sequence[str], *args: object, stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Exit code, standard output, standard error."""
    command = [*nmt, *EN_DE, *map(str, args)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, cwd=ROOT)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.returncode, done.stdout, done.stderr.decode()


@either
def test_three_lines_with_the_middle_one_empty(nmt: Sequence[str]) -> None:
    code, out, error = run(nmt, stdin=b"Good morning.\n\nHow are you?\n")
    assert (code, error) == (0, "")
    first, middle, last, end = out.split(b"\n")
    assert (middle, end) == (b"", b"")
    assert first == (b"GOOD MORNING." if nmt == FAKE_NMT else b"Guten Morgen.")
    assert last.endswith(b"?")


@either
def test_line_ends_and_strange_characters(nmt: Sequence[str]) -> None:
    code, out, _ = run(nmt, stdin=b"\r\n  \t\n\x00\x01\x7f\n \x1b[0m \r\nGood morning.")
    assert code == 0
    assert out.count(b"\n") == 4
    assert out.startswith(b"\r\n  \t\n")
    assert not out.endswith(b"\n")


def test_a_dash_is_standard_output() -> None:
    assert run(FAKE_NMT, "-", "-o", "-", stdin=b"a\nb\n") == (0, b"A\nB\n", "")


@either
def test_what_is_not_utf8(nmt: Sequence[str], tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(b"Good morning.\n\nna\xefve\nlost?\n")
    code, out, error = run(nmt, path)
    assert (code, out.count(b"\n")) == (2, 2)
    assert error == (
        f"nmt: {path}, line 3: byte 3 (0xef) is not valid UTF-8; convert the file first, "
        "for example with iconv -f latin1 -t utf-8\n"
    )


@pytest.mark.parametrize("server", [False, True], ids=["here", "server"])
def test_a_line_of_a_megabyte(server: bool, tmp_path: Path) -> None:
    line = b"All work and no play. " * 48_000
    if not server:
        assert run(FAKE_NMT, stdin=line + b"\nb\n") == (0, line.upper() + b"\nB\n", "")
        return
    with process(FAKE_NMT) as running:
        running.wait_for("serving")
        code, out, error = run(FAKE_NMT, "--server", running.address, "-o", tmp_path / "out", stdin=b"a\n" + line)
    assert (code, out) == (2, b"")
    assert "1056000 characters, the limit is 200000; split the text between two sentences" in error
    assert (tmp_path / "out").read_bytes() == b"A\n"


@either
def test_server_and_library_agree(nmt: Sequence[str], tmp_path: Path) -> None:
    text = b"Good morning.\n\n  He has no time today. She is here.\r\nThank you!"
    options = ("--format", "jsonl", "--beam", "3", "--nbest", "2", "--length-penalty", "0.6")
    with process(nmt) as server:
        server.wait_for("serving")
        code, out, error = run(nmt, "--server", server.address, *options, stdin=text)
    assert (code, error) == (0, "")
    assert run(nmt, *options, stdin=text) == (0, out, "")
    entries = [json.loads(line) for line in out.splitlines()]
    assert [entry["source"] for entry in entries] == text.decode().replace("\r", "").split("\n")
    assert all(entry["translation"] == entry["hypotheses"][0]["text"] for entry in entries)


def test_sampling_is_repeatable() -> None:
    code, out, error = run(FAKE_NMT, "--sampling", "--seed", "3", "--temperature", "0.5", "--nbest", "3", stdin=b"a\n")
    assert (code, out, error) == (0, b"A\tA'\tA''\n", "")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--beam", "0"], 2, "beam_size = 0 must lie in 1..64"),
        (["--nbest", "6"], 2, "nbest = 6 needs a beam_size of at least 6, not 5"),
        (["--seed", "1"], 2, "seed has an effect only with sampling"),
        (["none.txt"], 2, "none.txt: no such file"),
        (["tests/unit"], 2, "tests/unit: no file there that could be translated"),
        (["-o", "none/out.txt"], 2, "none: no such folder; create it first"),
        (["-o", "tests"], 2, "-o tests is a folder and standard input has no name; name a file"),
        (["--checkpoint", "none"], 2, "checkpoint none does not exist"),
        (["--server", "localhost:1", "--checkpoint", "x"], 2, "--server translates with the server's model"),
        (["--server", "nowhere"], 2, "'nowhere' is not of the form HOST:PORT"),
        (["--server", "127.0.0.1:1"], 1, "no answer from 127.0.0.1:1, is 'nmt serve' running there?"),
        (["--to", "xx"], 2, "unknown language 'xx'"),
    ],
)
def test_errors_are_one_line(monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, message: str) -> None:
    monkeypatch.setitem(sys.modules, "model.translator", module())
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(main, [*EN_DE, *args], input="a\n")
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(f"nmt: {message}")
    assert result.stderr.count("\n") == 1


def test_usage_errors() -> None:
    for args in (["translate"], [*EN_DE, "--format", "pdf"], [*EN_DE, "--beam", "many"], ["transalte"]):
        assert CliRunner().invoke(main, args).exit_code == 2


def test_a_full_disk() -> None:
    for args, name in ((["-o", "/dev/full"], "/dev/full"), ([], "standard output")):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(
                [*FAKE_NMT, *EN_DE, *args], input=b"a\n", stdout=full, stderr=subprocess.PIPE, timeout=60
            )
        assert done.returncode == 1
        assert done.stderr.decode() == f"nmt: cannot write {name}: No space left on device\n"


def test_a_reader_that_has_enough() -> None:
    done = subprocess.run(
        f"yes | head -50000 | {' '.join(FAKE_NMT)} {' '.join(EN_DE)} | head -1",
        shell=True,
        capture_output=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"Y\n", b"")


def test_output_flows_before_the_input_ends(tmp_path: Path) -> None:
    """A window is written as soon as it is done."""
    with subprocess.Popen([*FAKE_NMT, *EN_DE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as nmt:
        assert nmt.stdin
        assert nmt.stdout
        nmt.stdin.write(b"a\n" * 2_000)
        nmt.stdin.flush()
        assert nmt.stdout.readline() == b"A\n"
        nmt.stdin.close()
        assert nmt.stdout.read() == b"A\n" * 1_999


def test_killed_it_leaves_what_is_done(tmp_path: Path) -> None:
    out = tmp_path / "out.txt"
    with subprocess.Popen([*FAKE_NMT, *EN_DE, "-o", out], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as nmt:
        assert nmt.stdin
        nmt.stdin.write(b"a\n" * 2_000)
        nmt.stdin.flush()
        partial = tmp_path / "out.txt.partial"
        for _ in range(500):
            if partial.exists() and partial.stat().st_size:
                break
            try:
                nmt.wait(timeout=0.02)
            except subprocess.TimeoutExpired:
                continue
        nmt.kill()
    assert partial.read_bytes() == b"A\n" * 2_000
    assert not out.exists()


def test_progress_on_a_terminal_only(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"a{i}\n" for i in range(6_000)))
    command = [*FAKE_NMT, *EN_DE, str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.txt")]
    environment = os.environ | {"FAKE_SLEEP": "0.6"}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run(command, stdin=subprocess.DEVNULL, stderr=theirs, env=environment, timeout=60, check=True)
    os.close(theirs)
    assert b"/6000" in os.read(ours, 10_000)
    os.close(ours)
    quiet = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=True)
    # Whether it can, two shares of the first window, two whole windows
    assert (quiet.stdout, quiet.stderr) == (b"", b"fake: translating\n" * 5)


def test_help_needs_no_torch() -> None:
    code = "import sys, service.cli as c; c.main(['translate', '--help'], standalone_mode=False); "
    check = "assert not {'torch', 'grpc', 'datasets'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, check=True, capture_output=True, timeout=60)


def test_the_client_needs_no_torch() -> None:
    code = "import sys, service.client, service.translate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


@either
def test_a_glossary(nmt: Sequence[str], tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("morning\tZORKWILL\n")
    code, out, error = run(nmt, "--glossary", tmp_path / "terms.tsv", stdin=b"Good morning.\n\nHello.\n")
    assert (code, error, out.count(b"\n")) == (0, "", 3)
    assert b"ZORKWILL" in out.splitlines()[0]


def test_a_glossary_that_is_none(tmp_path: Path) -> None:
    assert run(FAKE_NMT, "--glossary", tmp_path / "none")[::2] == (
        2,
        f"nmt: cannot read the glossary {tmp_path / 'none'}: No such file or directory\n",
    )
    assert run(FAKE_NMT, "--ignore-case")[::2] == (2, "nmt: --ignore-case goes with --glossary\n")
