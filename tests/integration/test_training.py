"""Whole training runs on a small language that the project makes itself: numbers in English and German."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from samples import DE, EN, sentences

from model import checkpoint
from model.errors import UserError
from model.translator import Translator
from training.corpus import load_corpora
from training.recipe import load_recipe
from training.testset import load_test_set
from training.trainer import Trainer, train

RECIPE = """
[model]
d_model = 64
num_heads = 4
d_ff = 128
encoder_layers = 1
decoder_layers = 1
dropout = 0.1
max_length = 64

[vocabulary]
size = 340

[cleaning]
wrong_language = false

[training]
max_steps = {steps}
max_tokens = 60
batch_tokens = 1024
learning_rate = 5e-3
warmup_steps = 60
ema_decay = 0.98
bf16 = false
validate_steps = {validate}
log_steps = 1

[[corpus]]
path = "train.tsv"
source = "en"
target = "de"

[[validation]]
test = "test.tsv"
source = "en"
target = "de"
limit = 20
beam_size = 2

[[validation]]
test = "back.tsv"
source = "de"
target = "en"
limit = 20
beam_size = 2
"""


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    draw = random.Random(0)
    pairs = []
    for _ in range(4000):
        digits = [draw.randrange(10) for _ in range(draw.randint(2, 8))]
        pairs.append((" ".join(EN[d] for d in digits), " ".join(DE[d] for d in digits)))
    (folder / "train.tsv").write_text("".join(f"{en}\t{de}\n" for en, de in pairs[50:]), encoding="utf-8")
    (folder / "test.tsv").write_text("".join(f"{en}\t{de}\n" for en, de in pairs[:50]), encoding="utf-8")
    (folder / "back.tsv").write_text("".join(f"{de}\t{en}\n" for en, de in pairs[:50]), encoding="utf-8")
    return folder


def recipe_file(folder: Path, name: str, steps: int, validate: int = 10_000) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(RECIPE.format(steps=steps, validate=validate), encoding="utf-8")
    return path


def losses(out: Path) -> dict[int, float]:
    records = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {record["step"]: record["loss"] for record in records if "loss" in record}
    assert len(found) == sum("loss" in record for record in records)  # no step is there twice
    return found


def nmt(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **options)  # type: ignore[call-overload]


@pytest.mark.slow
def test_from_corpus_to_translation_through_the_command_line(language: Path, tmp_path: Path) -> None:
    recipe = recipe_file(language, "learn", steps=700, validate=100)
    run = nmt("train", recipe, "--out", tmp_path / "run", "--set", "training.average_checkpoints=2")
    assert run.returncode == 0, run.stderr
    best = Path(run.stdout.strip())
    assert "kept" in run.stderr and "BLEU" in run.stderr  # the account of cleaning, the validation
    assert (tmp_path / "run" / "curves.png").stat().st_size > 10_000
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    assert checkpoint.load(tmp_path / "run" / "averaged").config == checkpoint.load(best).config

    there = nmt("translate", "--from", "en", "--to", "de", "--checkpoint", best, input="one two three\n\nnine zero\n")
    first, blank, second, end = there.stdout.split("\n")
    assert {*first.split(), *second.split()} <= set(DE) and first and second and blank == end == "", there.stderr
    back = nmt("translate", "--from", "de", "--to", "en", "--checkpoint", best, input="vier fünf\n")
    assert back.stdout and set(back.stdout.split()) <= set(EN), back.stderr

    scored = nmt(
        "evaluate", "--checkpoint", best, "--test", language / "test.tsv", "--from", "en", "--to", "de",
        "--metrics", "bleu", "--output", tmp_path / "scores", "--json",
    )  # fmt: skip
    assert scored.returncode == 0, scored.stderr
    bleu = json.loads(scored.stdout)["systems"][0]["scores"][0]
    assert bleu["score"] > 70 and "tok:13a" in bleu["signature"]


def test_bfloat16_learns_as_float32_does(language: Path, tmp_path: Path) -> None:
    """Other processes than this, since a process has one precision (Accelerate)."""
    recipe = recipe_file(language, "precision", steps=80)
    curves = []
    for bf16 in ("true", "false"):
        run = nmt("train", recipe, "--out", tmp_path / bf16, "--set", f"training.bf16={bf16}")
        assert run.returncode == 0, run.stderr
        curves.append(losses(tmp_path / bf16))
    low, full = curves
    assert low != full  # else the setting does nothing
    assert full[80] < 0.7 * full[1]
    assert low == pytest.approx(full, rel=0.02)


def test_a_killed_run_resumes_with_the_same_loss_curve(language: Path, tmp_path: Path) -> None:
    recipe = recipe_file(language, "resume", steps=40, validate=15)
    train(load_recipe(recipe), tmp_path / "whole")
    out = tmp_path / "killed"
    command = [
        sys.executable, "-m", "service.cli", "train", recipe, "--out", out, "--set", "training.save_minutes=0.001",
    ]  # fmt: skip
    for _ in range(2):
        process = subprocess.Popen([*map(str, command), "--resume"], stderr=subprocess.DEVNULL)
        before = max(losses(out), default=0) if (out / "log.jsonl").exists() else 0
        until = time.monotonic() + 120
        while time.monotonic() < until and not (
            (out / "state.safetensors").exists() and max(losses(out), default=0) >= before + 8
        ):
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    train(load_recipe(recipe), out, resume=True)
    assert losses(out) == losses(tmp_path / "whole")
    weights = [checkpoint.load(folder / "last").weights for folder in (out, tmp_path / "whole")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


@pytest.mark.slow
def test_two_processes_train_one_model(language: Path, tmp_path: Path) -> None:
    recipe = recipe_file(language, "parallel", steps=12)
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "service.cli",
        "train", recipe, "--out", tmp_path / "two", "--set", "model.dropout=0.0",
    ]  # fmt: skip
    run = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stderr
    # Two processes with a batch each see what one process sees that accumulates two batches
    one = load_recipe(recipe, ["training.accumulate=2", "model.dropout=0.0"])
    train(one, tmp_path / "one")
    two, alone = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert two.keys() == alone.keys()
    assert all(abs(two[step] - alone[step]) < 1e-3 for step in two)


def test_what_a_user_can_do_wrong(language: Path, tmp_path: Path) -> None:
    recipe = recipe_file(language, "wrong", steps=1)
    train(load_recipe(recipe), tmp_path / "run")
    with pytest.raises(UserError, match="--resume"):
        train(load_recipe(recipe), tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot resume"):
        train(load_recipe(recipe), tmp_path / "run", resume=True)
    for override, message in (
        ("training.max_step=3", "did you mean 'max_steps'"),
        ("model.num_heads=5", "multiple of num_heads"),
        ("max_steps=3", "section.key=value"),
        ("training.initial='nowhere'", "no checkpoint"),
        ("training.max_tokens=65", "exceeds model.max_length = 64"),
        ("training.max_tokens=2", "no pair is short enough"),
        ("training.patience=-1", "must not be negative"),
        ("training.seed=-1", "must not be negative"),
        ("validation.limit=3", "write it into the recipe"),
    ):
        with pytest.raises(UserError, match=message):
            train(load_recipe(recipe, [override]), tmp_path / override.replace("'", ""))
    for line, other, message in (
        ("limit = 20", "limit = 0", "limit = 0 must be at least 1"),
        ("beam_size = 2", "beam_size = 0", "beam_size = 0"),
        ('test = "back.tsv"', 'test = "missing.tsv"', "missing.tsv' is neither a file"),
        ('source = "de"', 'source = "fr"', "'fr'"),
        ('test = "back.tsv"\nsource = "de"\ntarget = "en"', 'test = "test.tsv"\nsource = "en"\ntarget = "de"', "names"),
    ):  # at once, not after the corpora or at the first validation
        broken = language / "broken.toml"
        broken.write_text(recipe.read_text().replace(line, other))
        with pytest.raises(UserError, match=message):
            train(load_recipe(broken), tmp_path / "broken")
    broken.write_text("[model\n")
    with pytest.raises(UserError, match=r"broken\.toml"):
        load_recipe(broken)


def test_packed_rows_train_and_resume(language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_file(language, "packed", steps=40)
    packed = ["training.pack=true", "training.r_drop=1.0"]
    train(load_recipe(recipe, packed), tmp_path / "whole")
    monkeypatch.setattr(Trainer, "_helpers", lambda trainer: 2)  # processes, as beside a GPU
    train(load_recipe(recipe, [*packed, "training.max_steps=17"]), tmp_path / "halves")
    train(load_recipe(recipe, packed), tmp_path / "halves", resume=True)
    found = losses(tmp_path / "whole")
    assert losses(tmp_path / "halves") == found
    assert found[40] < 0.75 * found[1]
    with pytest.raises(UserError, match="pack goes with encoder-decoders"):
        load_recipe(recipe, [*packed, "model.architecture='decoder-only'", "model.encoder_layers=0"])
    with pytest.raises(UserError, match="pack = true needs max_tokens of at most 128"):
        load_recipe(recipe, [*packed, "training.max_tokens=200"])


def test_weights_alone_start_a_new_run(language: Path, tmp_path: Path) -> None:
    recipe = recipe_file(language, "again", steps=3)
    best = train(load_recipe(recipe), tmp_path / "first")
    overrides = [
        f"training.initial='{best}'",
        "training.initial_step=100",
        "training.max_steps=102",
        "model.d_ff=200",  # wider than the first
    ]
    train(load_recipe(recipe, overrides), tmp_path / "second")
    assert list(losses(tmp_path / "second")) == [101, 102]
    assert (tmp_path / "second" / "vocabulary.model").read_bytes() == (best / "vocabulary.model").read_bytes()
    sections = re.sub(r"(?s)\[model\].*?(?=\[training\])", "", recipe.read_text(encoding="utf-8"))
    (language / "bare.toml").write_text(sections, encoding="utf-8")  # neither [model] nor [vocabulary]
    bare = load_recipe(language / "bare.toml", [overrides[0], "model.dropout=0.3"])
    first = checkpoint.load(best).config
    assert first.dropout != 0.3 and bare.model == dataclasses.replace(first, dropout=0.3)
    for override, message in {
        "training.initial=nowhere": "no checkpoint at nowhere",
        "training.initial=5": "initial = 5 must be of type str",
    }.items():
        with pytest.raises(UserError, match=message):
            load_recipe(recipe, [override])
    with pytest.raises(UserError, match="another architecture"):
        train(load_recipe(recipe, [*overrides, "model.d_ff=8"]), tmp_path / "narrower")
    assert Translator.load(tmp_path / "second" / "last").languages == ("de", "en")


def weights(run: Path, name: str) -> bytes:
    return (run / name / "model.safetensors").read_bytes()


def test_without_validation_the_last_weights_are_the_best(language: Path, tmp_path: Path) -> None:
    blind, run = recipe_file(language, "blind", steps=4), tmp_path / "run"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    for steps in (2, 4):  # not yet validated
        train(load_recipe(blind, [f"training.max_steps={steps}"]), run, resume=True)
        assert weights(run, "best") == weights(run, "last")
        assert f"step {steps}," in (run / "best" / "MODEL_CARD.md").read_text()
    blind.write_text(blind.read_text().split("[[validation]]")[0])  # never
    (run / "state.safetensors").unlink()
    train(load_recipe(blind, ["training.max_steps=7", "training.validate_steps=2"]), run, resume=True)
    assert weights(run, "best") == weights(run, "last")
    assert list(losses(run)) == [1, 2, 3, 4, 5, 6, 7]  # from step 4
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_where_the_state_is_lost_the_best_weights_go_on(language: Path, tmp_path: Path) -> None:
    recipe, run = recipe_file(language, "lost", steps=4, validate=2), tmp_path / "run"
    train(load_recipe(recipe), run)
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    best = max((record for record in records if "bleu" in record), key=lambda record: record["bleu"])
    before = weights(run, "best")
    (run / "state.safetensors").unlink()
    with pytest.raises(UserError, match="--resume"):
        train(load_recipe(recipe), run)
    found = Trainer(load_recipe(recipe, ["training.max_steps=6", "training.validate_steps=100"]), run, resume=True)
    assert (found.progress.step, found.progress.best) == (best["step"], best["bleu"])
    found.run()
    assert weights(run, "best") == before != weights(run, "last")
    assert list(losses(run))[-2:] == [5, 6]


def test_a_stop_before_the_first_step_is_one(language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(load_recipe(recipe_file(language, "early", steps=3)), tmp_path / "run", resume=False)
    monkeypatch.setattr(trainer, "log", lambda line: line.startswith("step 0") and os.kill(os.getpid(), signal.SIGTERM))
    trainer.run()
    assert trainer.interrupted and trainer.progress.step == 0


def test_one_direction_from_files_for_the_other(tiny_recipe: Path, tmp_path: Path) -> None:
    one = tmp_path / "one.toml"
    turned = 'source = "de"\ntarget = "en"\nturned = true\n'
    one.write_text(
        f'base = "{tiny_recipe}"\n[[corpus]]\npath = "train.tsv"\nboth_ways = false\n{turned}'
        f'[[validation]]\ntest = "test.tsv"\n{turned}'
    )
    trainer = Trainer(load_recipe(one), tmp_path / "run", resume=False)
    lines = [tuple(line.split("\t")) for line in (tiny_recipe.parent / "train.tsv").read_text().splitlines()]
    assert trainer.corpora[0].take([0, 1]) == [(german, english) for english, german in lines[:2]]
    test = load_test_set(tiny_recipe.parent / "test.tsv", "en", "de").turned()
    assert (trainer.corpora[0].source, trainer.tests) == ("de", [test])


def test_what_patience_ended_stays_ended(language: Path, tmp_path: Path) -> None:
    recipe = load_recipe(
        recipe_file(language, "patient", steps=9, validate=1),
        ["training.patience=2", "training.learning_rate=1e-9"],
    )
    train(recipe, tmp_path / "run")
    steps = list(losses(tmp_path / "run"))
    assert 3 <= len(steps) < 9
    train(recipe, tmp_path / "run", resume=True)
    assert list(losses(tmp_path / "run")) == steps


def test_a_full_disk_keeps_the_last_state(language: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_file(language, "full", steps=2)
    train(load_recipe(recipe), tmp_path / "run")
    before = (tmp_path / "run" / "state.safetensors").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        train(load_recipe(recipe, ["training.max_steps=4"]), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
    assert not list((tmp_path / "run").glob(".*new"))


def test_a_streamed_corpus_trains_and_resumes(
    language: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_file(language, "streamed", steps=6)
    recipe.write_text(recipe.read_text().replace('path = "train.tsv"', 'path = "train.tsv"\nstreaming = true'))
    every = "training.log_steps=4"  # a line of the log is about more steps than one, also where they stop in between
    train(load_recipe(recipe, [every]), tmp_path / "whole")
    assert re.findall(r"\ntrain +[1-9][\d,]+ +[1-9][\d,]+ +[1-9]", capsys.readouterr().err)  # read, kept, duplicates
    train(load_recipe(recipe, [every, "training.max_steps=3"]), tmp_path / "halves")
    train(load_recipe(recipe, [every]), tmp_path / "halves", resume=True)
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole") and list(losses(tmp_path / "whole")) == [4]


def test_translations_of_a_model_are_a_corpus(tiny_recipe: Path, checkpoint_directory: Path, tmp_path: Path) -> None:
    """Back-translation as docs/training.md has it: real German, English of our own, trained in one direction."""
    german = sentences(50, 9)
    (tmp_path / "german.txt").write_text("".join(f"{line}\n" for line in german), encoding="utf-8")
    made = nmt(
        "translate", "--from", "de", "--to", "en", "--sampling", "--format", "jsonl", tmp_path / "german.txt",
        "-o", tmp_path / "back.jsonl", "--checkpoint", checkpoint_directory,
    )  # fmt: skip
    assert made.returncode in (0, 2), made.stderr
    recipe = tmp_path / "back.toml"
    corpus = 'path = "back.jsonl"\nsource_column = "translation"\ntarget_column = "source"'
    corpus += "\nboth_ways = false\nclean = false"
    recipe.write_text(tiny_recipe.read_text().replace('path = "train.tsv"', corpus))
    loaded = load_recipe(recipe)
    corpora, _ = load_corpora(loaded.corpora, loaded.cleaning, loaded.root, tmp_path / "cleaned")
    assert {target for _, target in corpora[0].take(range(len(corpora[0])))} <= set(german)
    assert len(corpora[0]) > 40 and not corpora[0].both_ways
    overrides = [f"vocabulary.path='{checkpoint_directory / 'vocabulary.model'}'", "training.log_steps=1"]
    train(load_recipe(recipe, overrides), tmp_path / "run")
    assert list(losses(tmp_path / "run")) == [1, 2, 3]
