"""What a recipe says is what the trainer does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import checkpoint
from model.vocabulary import Vocabulary
from training import batches, state
from training.augment import AugmentationConfig
from training.recipe import load_recipe
from training.schedule import learning_rate
from training.trainer import Trainer


def trainer_of(recipe: Path, out: Path, *overrides: str) -> Trainer:
    return Trainer(load_recipe(recipe, overrides), out, resume=False)


def test_every_setting_reaches_what_it_sets(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_of(
        tiny_recipe, tmp_path / "run", "training.weight_decay=0.25", "training.label_smoothing=0.3",
        "training.bpe_dropout=0.2", "training.clip_norm=0.125", "training.max_steps=9", "training.decay_steps=4",
        "training.warmup_steps=2", "augmentation.join=0.5", "model.formality=['de']", "training.r_drop=2.0",
    )  # fmt: skip
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert (trainer.loss_model.smoothing, trainer.loss_model.r_drop) == (0.3, 2.0)
    mixture = trainer.mixture
    assert (mixture.bpe_dropout, mixture.augmentation.join, mixture.formality) == (0.2, 0.5, ("de",))
    clips: list[float] = []
    clip = trainer.accelerator.clip_grad_norm_
    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", lambda p, n: (clips.append(n), clip(p, n))[1])
    average, stream = {k: v.double() for k, v in trainer.average.items()}, trainer.batches()
    for step in range(1, 9):
        trainer.update([next(stream)])
        rate = learning_rate(step, trainer.config.learning_rate, 2, 0, 9, 4)
        assert trainer.optimizer.param_groups[0]["lr"] == rate
        keep = min(trainer.config.ema_decay, (1 + step) / (10 + step))
        for name, weight in trainer.model.state_dict().items():
            average[name] = keep * average[name] + (1 - keep) * weight.double()
    assert clips == [0.125] * 8
    for name, wanted in average.items():
        torch.testing.assert_close(trainer.average[name].double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_gradient_is_of_the_mean_loss_of_a_token(tiny_recipe: Path, tmp_path: Path, accumulate: int) -> None:
    """Adam hides a gradient of another scale; clipping and weight decay do not."""
    trainer = trainer_of(tiny_recipe, tmp_path / "run", "training.clip_norm=1e9", "model.dropout=0.0")
    seen: list[torch.Tensor] = []
    step, stream = trainer.optimizer.step, trainer.batches()
    trainer.optimizer.step = lambda: (seen.extend(p.grad.clone() for p in trainer.model.parameters()), step())[1]
    some = [next(stream) for _ in range(accumulate)]
    losses = [trainer.loss_model(one.source, one.target_input, one.target)[0] for one in some]
    (sum(losses) / sum(one.tokens for one in some)).backward()
    wanted = [parameter.grad.clone() for parameter in trainer.model.parameters()]
    trainer.model.zero_grad()
    trainer.update(some)
    for found, right in zip(seen, wanted, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_the_best_is_kept_and_only_it(tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    validated = tmp_path / "validated.toml"
    validated.write_text(
        f'base = "{tiny_recipe}"\n[[validation]]\ntest = "test.tsv"\nsource = "en"\ntarget = "de"\nlimit = 2\n'
    )
    scores, sizes, averages = iter([3.0, 7.0, 5.0]), [], []
    monkeypatch.setattr("training.trainer.quick_bleu", lambda found, *_: (sizes.append(len(found)), next(scores))[1])
    run = tmp_path / "run"
    trainer = trainer_of(validated, run, "training.validate_steps=1", "training.average_checkpoints=2")
    validate = trainer._validate
    trainer._validate = lambda: (averages.append({k: v.clone() for k, v in trainer.average.items()}), validate())[1]
    trainer.run()
    best = checkpoint.load(run / "best").weights
    assert all(torch.equal(best[name], averages[1][name]) for name in best) and sizes == [2, 2, 2]
    names = sorted(path.name for path in run.glob("snapshot-*"))
    assert names == ["snapshot-2", "snapshot-3"]
    raw = [checkpoint.load(run / name).weights for name in names]
    for name, weight in checkpoint.load(run / "averaged").weights.items():
        torch.testing.assert_close(weight, (raw[0][name] + raw[1][name]) / 2)


def test_a_run_saves_itself_now_and_then_and_ends_in_time(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tiny_recipe, tmp_path / "run", "training.save_minutes=0", "training.max_hours=1e-9")
    saved: list[int] = []
    save = trainer._save_state
    monkeypatch.setattr(trainer, "_save_state", lambda: (saved.append(trainer.progress.step), save())[1])
    trainer.run()
    assert saved == [1, 1] and trainer.progress.step == 1  # in the loop, and at the end


def test_a_signal_between_two_looks_is_not_forgotten(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = trainer_of(tiny_recipe, tmp_path / "run", "training.max_steps=9")
    agree = trainer._agree

    def look(stop: bool) -> bool:
        found = agree(stop)
        trainer.stop = trainer.stop or trainer.progress.step == 3  # as the handler of a signal does, at this moment
        return found

    monkeypatch.setattr(trainer, "_agree", look)
    trainer.run()
    assert trainer.progress.step == 4


def test_where_the_state_is_lost_the_rate_rises_anew(tiny_recipe: Path, tmp_path: Path) -> None:
    trainer_of(tiny_recipe, tmp_path / "run", "training.log_steps=1").run()
    (tmp_path / "run" / state.STATE).unlink()
    again = Trainer(load_recipe(tiny_recipe, ["training.max_steps=9"]), tmp_path / "run", resume=True)
    again.update([next(again.batches())])
    c = again.config
    assert again.progress.warm_from == 3
    assert again.optimizer.param_groups[0]["lr"] == learning_rate(4, c.learning_rate, c.warmup_steps, 3)


def test_form_of_address_and_noise_reach_the_batches(vocabulary: Vocabulary) -> None:
    class Same(batches.LoadedCorpus):
        name, source, target, weight, both_ways = "c", "en", "de", 1.0, True

        def __init__(self) -> None: ...

        def __len__(self) -> int:
            return 400

        def take(self, indices: Any) -> list[tuple[str, str]]:
            return [("Tom sees your dog.", "Tom sieht deinen Hund.") for _ in indices]

    noise = AugmentationConfig(join=0.3, lower_case=0.4, names=0.5)
    stream = batches.Mixture([Same()], vocabulary, 400, 96, 3, augmentation=noise, formality=("de",))
    arrays, _, _ = stream._window(stream.position)
    rows = [[id for id in row if id] for source, _ in arrays for row in source[0].tolist()]
    tag, informal = vocabulary.tag("de"), vocabulary.id("<informal>")
    german = [row for row in rows if row[0] == tag]
    assert np.mean([row[1] == informal for row in german]) == pytest.approx(0.5, abs=0.12)
    assert not any(informal in row for row in rows if row[0] != tag)  # only where the target is German
    texts = [vocabulary.decode(row) for row in german]
    assert np.mean([text == text.lower() for text in texts]) == pytest.approx(0.4, abs=0.12)
    assert any(text.lower().count("dog") == 2 for text in texts)
    assert 0.3 < np.mean(["tom" in text.lower() for text in texts]) < 0.8
