"""The model can learn: a tiny one reverses sequences without a mistake."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import ModelConfig, SearchConfig
from model.search import search
from model.transformer import EncoderDecoder
from model.vocabulary import BOS, EOS, PAD
from training.loss import smoothed_cross_entropy
from training.schedule import learning_rate

SYMBOLS = 5


def example(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of 1 to 4 symbols and their reversals, both with EOS and padding."""
    source, target = (torch.full((batch, 5), PAD) for _ in range(2))
    for row in range(batch):
        length = int(torch.randint(1, 5, (), generator=generator))
        symbols = torch.randint(EOS + 1, EOS + 1 + SYMBOLS, (length,), generator=generator)
        source[row, : length + 1] = torch.cat((symbols, torch.tensor([EOS])))
        target[row, : length + 1] = torch.cat((symbols.flip(0), torch.tensor([EOS])))
    return source, target


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_reversal_is_learnt_to_the_last_symbol(positions: str, norm: str) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    model = EncoderDecoder(
        ModelConfig(
            vocab_size=EOS + 1 + SYMBOLS,
            d_model=32,
            num_heads=2,
            d_ff=64,
            encoder_layers=1,
            decoder_layers=1,
            positions=positions,
            norm_position=norm,
            dropout=0.0,
            max_length=16,
        )
    )
    sources, targets = example(4096, generator)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
    average = 1.0  # of the loss a token
    for step in range(1, 2001):
        rows = torch.randint(len(sources), (48,), generator=generator)
        source, target = sources[rows], targets[rows]
        hidden = model(source, torch.nn.functional.pad(target[:, :-1], (1, 0), value=BOS))
        loss = smoothed_cross_entropy(hidden, model.output.weight, target, 0.0)[0] / (target != PAD).sum()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 5e-3, 100)
        optimizer.step()
        optimizer.zero_grad()
        average = 0.95 * average + 0.05 * loss.item()
        if average < 0.005:
            break

    model.eval()
    fresh, _ = example(100, generator)
    questions = [[id for id in row if id != PAD] for row in fresh.tolist()]
    for beam_size in (1, 3):
        answers = search(model, questions, SearchConfig(beam_size=beam_size, max_length_offset=2, max_length_ratio=1.0))
        assert [list(found[0].ids) for found in answers] == [question[-2::-1] for question in questions]
