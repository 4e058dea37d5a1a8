from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from samples import sentences

from service.cli import main
from training import bench


@pytest.fixture
def test_file(tmp_path: Path) -> Path:
    path = tmp_path / "test.tsv"
    path.write_text("".join(f"{a}\t{b}\n" for a, b in zip(sentences(6, 1), sentences(6, 2), strict=True)))
    return path


def test_bench_decode_reports_every_engine(checkpoint_directory: Path, test_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ctranslate2")
    arguments = [
        "--checkpoint",
        str(checkpoint_directory),
        "--test",
        str(test_file),
        "--against",
        "ctranslate2,transformers",
    ]
    chart = tmp_path / "chart.png"
    result = CliRunner().invoke(main, ["bench", "decode", *arguments, "--quick", "--json", "--chart", str(chart)])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["machine"]["cores"] >= 1 and report["machine"]["processor"]
    settings = [(row["engine"], row["batch"], row["beam"]) for row in report["rows"]]
    for engine in ("nmt", "ctranslate2", "transformers"):
        assert {(batch, beam) for name, batch, beam in settings if name == engine} == {(1, 1), (1, 5), (64, 1), (64, 5)}
    for row in report["rows"]:
        assert row["sentences"] == 6 and row["seconds"] > 0 and row["latency_ms"] > 0 and row["peak_mb"] > 10
        assert row["identical_to_float32"] == 1.0 or (row["engine"], row["dtype"]) != ("nmt", "float32")
    assert chart.stat().st_size > 5_000


def test_an_unknown_engine_is_refused(checkpoint_directory: Path, test_file: Path) -> None:
    arguments = ["--checkpoint", str(checkpoint_directory), "--test", str(test_file), "--against", "moses"]
    result = CliRunner().invoke(main, ["bench", "decode", *arguments])
    assert result.exit_code == 2
    assert "unknown engine 'moses'; --against knows ctranslate2, transformers" in result.output


def test_a_checkpoint_that_does_not_load_is_one_line(test_file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["bench", "decode", "--checkpoint", str(tmp_path / "no"), "--test", str(test_file)]
    )
    assert result.exit_code == 2
    assert result.output.count("\n") == 1 and "no" in result.output


def test_of_several_ways_to_use_the_threads_the_fastest_counts() -> None:
    rows = [
        {"engine": "a", "dtype": "int8", "threads": 2, "inter_threads": n, "seconds": seconds}
        for n, seconds in ((1, 3.0), (2, 2.0))
    ]
    assert bench._best(rows) == [rows[1]]
