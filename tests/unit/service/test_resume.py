"""A job that is killed at any moment goes on, and writes the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fake_translator import FakeTranslator

import service.translate
from model.config import SearchConfig
from model.errors import UserError
from service.documents import Options, Record
from service.errors import ServiceError
from service.inputs import plan
from service.journal import Journal, State
from service.translate import How, Item, Job, Worker, run, shares

NAMES = ("a.txt", "b.csv", "c.md", "d.jsonl", "e.txt")


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.translate, "WINDOW_TEXTS", 7)
    monkeypatch.setattr(service.translate, "COMMIT_SECONDS", 0.0)


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    lines = [f"line {i} {'x' * (i % 50)}{' doubt' * (i % 31 == 0)}" for i in range(600)]
    (folder / "a.txt").write_bytes(
        b"\n".join(f"{line}".encode() if i % 97 else b"\xff" for i, line in enumerate(lines))
    )
    (folder / "b.csv").write_text("id,text\n" + "".join(f'{i},"{line}"\n' for i, line in enumerate(lines)) + "short\n")
    (folder / "c.md").write_text("\n\n".join(f"- {line} **bold {line}** end." for line in lines[:200]))
    (folder / "d.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines) + "{\n")
    (folder / "e.txt").write_text("last\n")
    return folder


def translate(
    folder: Path, out: Path, resume: bool = False, translator: Any = None, model: str = "fake", target: str = "de"
) -> None:
    parts = plan([folder], out, None, Options("en", ("text",)))
    job = Job(tuple(parts), out, How("en", target, SearchConfig()), resume)
    run(job, translator or FakeTranslator(), lambda: model)


def expected(folder: Path, out: Path) -> dict[str, bytes]:
    with pytest.raises(UserError, match="9 records could not be translated"):
        translate(folder, out)
    return {path.name: path.read_bytes() for path in out.iterdir() if "manifest" not in path.name}


def commits(out: Path) -> int:
    manifest = out / "nmt-manifest.jsonl"
    return manifest.read_bytes().count(b"\n") if manifest.exists() else 0


@pytest.mark.usefixtures("small_windows")
def test_killed_at_20_random_moments(collection: Path, tmp_path: Path) -> None:
    right = expected(collection, tmp_path / "right")
    out = tmp_path / "out"
    rng = random.Random(7)
    for _ in range(20):
        child = os.fork()
        if child == 0:
            slow = FakeTranslator(before=lambda texts: time.sleep(0.002))
            try:
                translate(collection, out, resume=True, translator=slow)
            finally:
                os._exit(0)
        goal = commits(out) + rng.randint(0, 12)
        while commits(out) < goal:
            time.sleep(0.001)
        time.sleep(rng.uniform(0.0, 0.005))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "it ended before it was killed"
        for name in NAMES:  # what is there is whole; what is not yet is a beginning
            if (out / name).exists():
                assert (out / name).read_bytes() == right[name]
            if (partial := out / f"{name}.partial").exists():
                assert right[name].startswith(partial.read_bytes())
    assert any((out / name).exists() for name in NAMES), "it should have come some way"
    with pytest.raises(UserError, match="9 records could not be translated"):
        translate(collection, out, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if "manifest" not in path.name} == right
    manifest = (out / "nmt-manifest.jsonl").read_bytes()
    idle = FakeTranslator()
    with pytest.raises(UserError, match="9 records"):
        translate(collection, out, resume=True, translator=idle)  # nothing is left to do
    assert idle.calls == [[""]]
    assert (out / "nmt-manifest.jsonl").read_bytes() == manifest


def test_a_window_is_shared_out_by_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each share takes a few seconds at most, whatever the speed, and no item is lost."""
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    window = [Item(0, Path("a"), Record(f"line {i}", b"", ("x" * 100,))) for i in range(2_000)]
    for speed in (100.0, 2_000.0, 100_000.0):  # characters a second
        found, seconds = [], []
        for share in shares([window, window[:5]]):
            found.append(share)
            seconds.append(100 * len(share) / speed)
            now += seconds[-1]
        assert [item for share in found for item in share] == window + window[:5]
        assert max(seconds[3:]) <= 2 * service.translate.SHARE_SECONDS
        assert len(found) < 10 or sorted(seconds)[len(seconds) // 2] > service.translate.SHARE_SECONDS / 4
    assert len(next(shares([window], 80_000))) == 800  # for requests in flight


@pytest.mark.usefixtures("small_windows")
def test_a_failure_at_any_window_loses_nothing(collection: Path, tmp_path: Path) -> None:
    right = expected(collection, tmp_path / "right")
    out = tmp_path / "out"
    calls = 0

    def fail(texts: Sequence[str]) -> None:
        nonlocal calls
        calls += 1
        if calls % 40 == 0:
            raise ServiceError("no answer")

    failures = 0
    for _ in range(30):
        try:
            translate(collection, out, resume=True, translator=FakeTranslator(before=fail))
        except ServiceError as error:
            assert "; what was done is kept in" in str(error) and "--resume goes on" in str(error)
            failures += 1
        except UserError:
            break
    assert failures > 3
    assert {path.name: path.read_bytes() for path in out.iterdir() if "manifest" not in path.name} == right


@pytest.mark.usefixtures("small_windows")
def test_two_jobs_are_not_mixed(collection: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen = 0

    def stop(texts: Sequence[str]) -> None:
        nonlocal seen
        seen += 1
        if seen == 10:
            raise ServiceError("stop")

    with pytest.raises(ServiceError):
        translate(collection, out, translator=FakeTranslator(before=stop))
    with pytest.raises(UserError, match='model was "fake" and is "other"'):
        translate(collection, out, resume=True, model="other")
    with pytest.raises(UserError, match='source was "en" and is "de"'):
        parts = plan([collection], out, None, Options("en", ("text",)))
        run(Job(tuple(parts), out, How("de", "en", SearchConfig()), resume=True), FakeTranslator(), lambda: "fake")
    with pytest.raises(UserError, match=r"this job is unfinished: go on with --resume, or delete it"):
        translate(collection, out)
    with (collection / "a.txt").open("ab") as file:
        file.write(b"more\n")
    with pytest.raises(UserError, match=r"the input .*a\.txt is new, gone or changed"):
        translate(collection, out, resume=True)


@pytest.mark.usefixtures("small_windows")
def test_a_server_that_is_given_another_model_meanwhile(collection: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "out.txt", iter(["old"] * 6 + ["new"] * 100)
    parts = plan([collection / "a.txt"], out, None, Options("en"))
    job = Job(tuple(parts), out, How("en", "de", SearchConfig()))
    with pytest.raises(ServiceError, match=r"model was 'old' and is 'new' now.*what was done is kept in .*out\.txt"):
        run(job, FakeTranslator(), lambda: next(names))
    done = (tmp_path / "out.txt.partial").read_bytes()
    assert done.count(b"\n") == 5 * 7 + 1  # five windows, a bad line; the window that may be of both is not written


def test_a_server_that_refuses_all_of_a_sudden_costs_no_text(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token was withdrawn, say: a refusal that is not about the text ends the job, and --resume goes on."""
    monkeypatch.setattr(service.translate, "WINDOW_TEXTS", 100)
    right = expected(collection, tmp_path / "right")
    out, calls = tmp_path / "out", 0

    def refuse(texts: Sequence[str]) -> None:
        nonlocal calls
        calls += 1
        if calls > 9:
            raise UserError("no valid token")

    with pytest.raises(ServiceError, match=r"no valid token; what was done is kept in .*--resume goes on"):
        translate(collection, out, translator=FakeTranslator(before=refuse))
    with pytest.raises(UserError, match="9 records could not be translated"):
        translate(collection, out, resume=True)
    assert {path.name: path.read_bytes() for path in out.iterdir() if "manifest" not in path.name} == right


def test_what_is_done_and_deleted_is_not_done(collection: Path, tmp_path: Path) -> None:
    (collection / "damaged.docx").write_bytes(b"no archive")  # a part that never has an output
    out = tmp_path / "out"
    for resume in (False, True):
        with pytest.raises(UserError, match="10 records could not be translated"):
            translate(collection, out, resume)
    (out / "c.md").unlink()
    with pytest.raises(UserError, match="this job is done, but 1 of its files is gone; delete that file to start"):
        translate(collection, out, resume=True)


def test_resume_needs_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    parts = plan([tmp_path / "a.txt"], None, None, Options("en"))
    with pytest.raises(UserError, match="--resume needs input files, and an output"):
        run(Job(tuple(parts), None, How("en", "de", SearchConfig()), resume=True), FakeTranslator(), lambda: "fake")


def test_a_torn_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    first = Journal(path, {"model": "a"}, resume=False)
    first.commit(records=3)
    with pytest.raises(UserError, match="another nmt is at work on this job"):
        Journal(path, {"model": "a"}, resume=True)
    first.close()
    with path.open("ab") as file:
        file.write(b'{"part": 1, "rec')
    again = Journal(path, {"model": "a"}, resume=True)
    assert again.state == State(records=3)
    again.commit(records=4)
    again.close()
    last = Journal(path, {"model": "a"}, resume=True)
    assert last.state == State(records=4)
    last.close()
    path.write_bytes(b"what?\n")
    with pytest.raises(UserError, match="is damaged; delete it"):
        Journal(path, {"model": "a"}, resume=True)


def test_a_refused_text_harms_no_other() -> None:
    def refuse(texts: Sequence[str]) -> None:
        if any("bad" in text for text in texts):
            raise UserError("refused")

    translator = FakeTranslator(before=refuse)
    worker = Worker(translator, How("en", "de", SearchConfig()))
    groups = [["a"], ["b", "bad"], [], ["c"], ["a", "d"]]
    found = worker(groups)
    assert [one if isinstance(one, str) else [t.hypotheses[0].text for t in one] for one in found] == [
        ["A"],
        "refused",
        [],
        ["C"],
        ["A", "D"],
    ]


def test_what_repeats_is_translated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    translator = FakeTranslator()
    worker = Worker(translator, How("en", "de", SearchConfig()))
    worker([["a", "b"], ["a"]])
    worker([["b", "c"]])
    assert translator.calls == [["a", "b"], ["c"]]
    monkeypatch.setattr(service.translate, "CACHE_TEXTS", 1)
    worker([["d"]])
    worker([["d", "a"]])
    assert translator.calls[2:] == [["d"], ["a"]]
