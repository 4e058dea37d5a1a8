"""The same job on Ray: same output, and a worker that is killed loses nothing."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import fake_translator
import pytest
from fake_translator import FakeTranslator

from model.config import SearchConfig
from model.errors import UserError
from service.documents import Options
from service.inputs import STDIN, plan
from service.translate import How, Job, identity_of, run

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'nmt[ray]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    for module in (fake_translator, sys.modules[__name__]):  # the workers cannot import the tests
        ray.cloudpickle.register_pickle_by_value(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_raylet_start_wait_time_s", "250")  # a training may have the cores
        patch.setenv("RAY_agent_register_timeout_ms", "250000")
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        except Exception as error:
            pytest.skip(f"ray does not start on this machine: {error}")
        yield
        ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import service.ray_engine

    for module in (service.translate, service.ray_engine):
        monkeypatch.setattr(module, "WINDOW_TEXTS", 10)
    monkeypatch.setattr(service.translate, "COMMIT_SECONDS", 0.0)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"".join(b"line %d\n" % i if i != 50 else b"\xff\n" for i in range(150)))
    (folder / "b.md").write_text("\n\n".join(f"- word {i} **bold {i}** end." for i in range(20)))
    return folder


def job(folder: Path, out: Path, resume: bool = False) -> Job:
    return Job(tuple(plan([folder], out, None, Options("en"))), out, How("en", "de", SearchConfig()), resume)


def load(killed: Path | None = None) -> FakeTranslator:
    """``killed``: the first worker to come by the text "line 73" dies of it, and leaves this file."""

    def before(texts: Sequence[str]) -> None:
        if killed and "line 73" in texts and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    return FakeTranslator(before=before)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if "manifest" not in path.name}


def test_same_output_though_a_worker_is_killed(folder: Path, tmp_path: Path) -> None:
    from service.ray_engine import run_on_ray

    bad = pytest.raises(UserError, match="1 record could not be translated")
    with bad:
        run(job(folder, tmp_path / "here"), FakeTranslator(), lambda: "fake")
    with bad:
        run_on_ray(job(folder, tmp_path / "there"), load)
    killed = tmp_path / "killed"
    with bad:
        run_on_ray(job(folder, tmp_path / "wounded"), functools.partial(load, killed))
    assert killed.exists()
    assert contents(tmp_path / "there") == contents(tmp_path / "wounded") == contents(tmp_path / "here")


def test_a_job_that_stopped_here_goes_on_there(folder: Path, tmp_path: Path) -> None:
    from service.ray_engine import run_on_ray

    with pytest.raises(UserError, match="1 record"):
        run(job(folder, tmp_path / "right"), FakeTranslator(), lambda: "fake")
    seen: list[str] = []

    def stop(texts: Sequence[str]) -> None:
        seen.extend(texts)
        if len(seen) > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job(folder, tmp_path / "out"), FakeTranslator(before=stop), lambda: identity_of(FakeTranslator()))
    assert (tmp_path / "out" / "a.txt.partial").exists()
    with pytest.raises(UserError, match="1 record"):
        run_on_ray(job(folder, tmp_path / "out", resume=True), load)
    assert contents(tmp_path / "out") == contents(tmp_path / "right")


def test_standard_input_is_refused(tmp_path: Path) -> None:
    from service.ray_engine import run_on_ray

    parts = plan([STDIN], None, None, Options("en"))
    with pytest.raises(UserError, match="--engine ray reads files"):
        run_on_ray(Job(tuple(parts), None, How("en", "de", SearchConfig())), load)
