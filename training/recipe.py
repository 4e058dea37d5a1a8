"""A recipe: everything that one training run is made of, read from a TOML file.

[model], [training], [vocabulary], [cleaning], [augmentation], one [[corpus]] a corpus, one [[validation]] a test set
that steers the run, one [[test]] a test set that judges it; keys are the fields of the dataclasses. Paths are relative
to the recipe's folder.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model import checkpoint
from model.config import ModelConfig, SearchConfig, check, from_dict
from model.errors import UserError
from training.augment import FORMALITY_RULES, AugmentationConfig
from training.batches import PACKED
from training.corpus import CleaningConfig, CorpusConfig


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation: how much, how fast, how often to look."""

    max_steps: int = 100_000  # optimiser steps
    max_hours: float = 1e6  # wall clock of one process, resumed runs count anew
    batch_tokens: int = 3_000  # padded tokens a batch, the longer side; a process
    accumulate: int = 1  # batches a step
    max_tokens: int = 128  # pairs with a longer side are left out, and counted
    learning_rate: float = 2e-3  # peak, reached after the warm-up, then falls with 1 / sqrt(step)
    warmup_steps: int = 1_000
    decay_steps: int = 0  # the last steps before max_steps, in which the rate falls to zero
    weight_decay: float = 0.0
    label_smoothing: float = 0.1
    bpe_dropout: float = 0.0  # share of merges skipped at random (Provilkov et al. 2020); 0.1 there
    pack: bool = False  # several pairs a row: no padding, and one shape for compiled layers, which a GPU wants
    r_drop: float = 0.0  # weight of the difference between two draws of dropout (Liang et al. 2021); 5 there
    clip_norm: float = 1.0  # largest norm of the gradient
    ema_decay: float = 0.999  # moving average of the weights, which is what is validated and kept
    average_checkpoints: int = 0  # also keep this many raw checkpoints and, at the end, their mean
    bf16: bool = True
    seed: int = 1
    validate_steps: int = 1_000
    patience: int = 0  # stop after this many validations without a better BLEU; 0 never
    save_minutes: float = 5.0
    log_steps: int = 50
    # checkpoint to start from: its [model] but for what the recipe says, which may be larger (training.state.grown),
    # its vocabulary and, where the run has no state yet, its weights
    initial: str = ""
    initial_step: int = 0  # where on the schedule such a start stands

    def __post_init__(self) -> None:
        for name in (
            "max_steps",
            "batch_tokens",
            "accumulate",
            "max_tokens",
            "warmup_steps",
            "validate_steps",
            "log_steps",
        ):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        for name in (
            "weight_decay",
            "decay_steps",
            "average_checkpoints",
            "patience",
            "save_minutes",
            "initial_step",
            "seed",
        ):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} must not be negative")
        check(self.max_hours > 0.0, f"max_hours = {self.max_hours} must be positive")
        check(0.0 <= self.label_smoothing < 1.0, f"label_smoothing = {self.label_smoothing} must lie in [0, 1)")
        check(0.0 <= self.bpe_dropout < 1.0, f"bpe_dropout = {self.bpe_dropout} must lie in [0, 1)")
        check(
            not self.pack or (self.max_tokens <= min(PACKED) and self.batch_tokens >= 4 * max(PACKED)),
            f"pack = true needs max_tokens of at most {min(PACKED)} and batch_tokens of at least {4 * max(PACKED)}, "
            f"not {self.max_tokens} and {self.batch_tokens}",
        )
        check(self.r_drop >= 0.0, f"r_drop = {self.r_drop} must not be negative")
        check(0.0 <= self.ema_decay < 1.0, f"ema_decay = {self.ema_decay} must lie in [0, 1)")
        check(self.learning_rate > 0.0, f"learning_rate = {self.learning_rate} must be positive")
        check(self.clip_norm > 0.0, f"clip_norm = {self.clip_norm} must be positive")


@dataclass(frozen=True)
class VocabularyConfig:
    """A vocabulary to train, or the path of one to use."""

    size: int = 8_000
    sentences: int = 1_000_000  # pairs to learn it from, at most
    path: str = ""


@dataclass(frozen=True)
class ValidationConfig:
    """A test set that steers the run."""

    test: str  # as for `nmt evaluate --test`
    source: str
    target: str
    turned: bool = False  # the file holds the other direction
    limit: int = 500  # the first lines only
    beam_size: int = 5

    def __post_init__(self) -> None:
        check(self.limit >= 1, f"limit = {self.limit} must be at least 1")
        _ = self.search  # refuses a beam that is none

    @property
    def search(self) -> SearchConfig:
        return SearchConfig(beam_size=self.beam_size)


@dataclass(frozen=True)
class ScoringConfig:
    """A test set on which ``python -m training.reproduce`` scores what was trained."""

    test: str  # as for `nmt evaluate --test`
    source: str
    target: str
    turned: bool = False  # the file holds the other direction
    metrics: tuple[str, ...] = ("bleu",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", tuple(self.metrics))  # TOML has no tuples


@dataclass(frozen=True)
class Recipe:
    name: str
    root: Path  # relative paths start here
    corpora: tuple[CorpusConfig, ...]
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    vocabulary: VocabularyConfig = field(default_factory=VocabularyConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    validation: tuple[ValidationConfig, ...] = ()
    tests: tuple[ScoringConfig, ...] = ()

    def resolve(self, path: str) -> str | Path:
        """A path relative to the recipe; what is no file there stays as it is (the name of a test set)."""
        return _resolved(self.root, path)

    @property
    def given_vocabulary(self) -> str | Path | None:
        """The vocabulary that the run does not train: the recipe's, else that of the initial checkpoint."""
        initial = self.training.initial and f"{self.training.initial}/{checkpoint.VOCABULARY}"
        path = self.vocabulary.path or initial
        return self.resolve(path) if path else None


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``overrides`` are "section.key=value" with TOML values. UserError names what is wrong.

    A recipe may begin with ``base = "other.toml"``: it then holds only what differs, and paths start from the base.
    """
    values, root = _read(path)
    for override in overrides:
        _override(values, override)
    _start_from_initial(values, root)
    sections: dict[str, Any] = {"name": path.stem, "root": root}
    tables: dict[str, type] = {
        "model": ModelConfig,
        "training": TrainingConfig,
        "vocabulary": VocabularyConfig,
        "cleaning": CleaningConfig,
        "augmentation": AugmentationConfig,
    }
    for table, cls in tables.items():
        if table in values:
            sections[table] = from_dict(cls, values.pop(table), f"{path} [{table}]")
    lists: dict[str, tuple[str, type]] = {
        "corpus": ("corpora", CorpusConfig),
        "validation": ("validation", ValidationConfig),
        "test": ("tests", ScoringConfig),
    }
    for table, (name, cls) in lists.items():
        entries = enumerate(values.pop(table, []), 1)
        sections[name] = tuple(from_dict(cls, entry, f"{path} [[{table}]] {i}") for i, entry in entries)
    check(bool(sections["corpora"]), f"{path}: no [[corpus]]; name at least one")
    recipe = from_dict(Recipe, values | sections, str(path))
    longest, training = recipe.model.max_length, recipe.training
    check(
        training.max_tokens <= longest,
        f"{path}: training.max_tokens = {training.max_tokens} exceeds model.max_length = {longest}",
    )
    check(
        not training.r_drop or recipe.model.dropout > 0.0,
        f"{path}: training.r_drop = {training.r_drop} compares two draws of dropout; set model.dropout above 0",
    )
    check(
        not training.pack or recipe.model.architecture == "encoder-decoder",
        f"{path}: training.pack goes with encoder-decoders; a decoder-only model takes one pair a row",
    )
    for language in recipe.model.formality:
        check(
            language in FORMALITY_RULES,
            f"{path}: model.formality names '{language}', but there are rules for {', '.join(FORMALITY_RULES)} only",
        )
    check(
        not training.patience or bool(recipe.validation),
        f"{path}: training.patience = {training.patience} needs a [[validation]] to be patient with",
    )
    return recipe


def _read(path: Path, above: tuple[Path, ...] = ()) -> tuple[dict[str, Any], Path]:
    """The tables of a recipe and of those that it is based on, and the folder that paths start from."""
    check(path.resolve() not in above, f"{path} is based on itself")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}") from None
    base = values.pop("base", None)
    if base is None:
        return values, path.parent
    check(isinstance(base, str), f"{path}: base = {base!r} must be the path of a recipe")
    merged, root = _read(path.parent / base, (*above, path.resolve()))
    for name, table in values.items():
        merged[name] = {**merged.get(name, {}), **table} if isinstance(table, dict) else table
    return merged, root


def _start_from_initial(values: dict[str, Any], root: Path) -> None:
    """What [model] leaves out is as in the checkpoint that the run starts from."""
    training, model = values.get("training"), values.get("model", {})
    initial = training.get("initial") if isinstance(training, dict) else None
    if initial and isinstance(initial, str) and isinstance(model, dict):  # else the tables are wrong
        values["model"] = dataclasses.asdict(checkpoint.load_config(_resolved(root, initial))) | model


def _resolved(root: Path, path: str) -> str | Path:
    found = root / path
    return found if found.exists() else path


def _override(values: dict[str, Any], override: str) -> None:
    key, found, value = override.partition("=")
    section, dot, name = key.partition(".")
    check(bool(found and dot), f"--set {override}: write section.key=value, for example training.max_steps=1000")
    try:
        parsed = tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    table = values.setdefault(section, {})
    check(isinstance(table, dict), f"--set {override}: [[{section}]] may come several times; write it into the recipe")
    table[name] = parsed
