from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import losses

from model.vocabulary import PAD
from training.loss import CHUNK, smoothed_cross_entropy


def example(count: int, seed: int, vocab_size: int = 11, width: int = 6) -> tuple[torch.Tensor, ...]:
    """hidden (N, E), weight (V, E) and labels (N,), a third of them padding."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, width, generator=generator)
    weight = torch.randn(vocab_size, width, generator=generator)
    labels = torch.randint(1, vocab_size, (count,), generator=generator)
    labels[torch.rand(count, generator=generator) < 0.3] = PAD
    return hidden, weight, labels


@given(st.sampled_from([1, 7, CHUNK, CHUNK + 1, 3 * CHUNK - 5]), st.sampled_from([0.0, 0.1, 0.5]), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_loss_and_gradients_equal_the_definition(count: int, smoothing: float, seed: int) -> None:
    hidden, weight, labels = example(count, seed)
    ours = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    exact = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    loss, likelihood = smoothed_cross_entropy(*ours, labels, smoothing)
    wanted = losses.smoothed_cross_entropy(*exact, labels, smoothing, PAD)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5, abs=1e-6)
    plain = losses.smoothed_cross_entropy(*exact, labels, 0.0, PAD).item()
    assert likelihood.item() == pytest.approx(plain, rel=1e-5, abs=1e-6)
    (loss * 0.37).backward()  # whatever is done with the loss afterwards
    if (labels != PAD).any():
        (wanted * 0.37).backward()
        for a, b in zip(ours, exact, strict=True):
            torch.testing.assert_close(a.grad, b.grad.float(), atol=1e-4, rtol=1e-4)


def test_batches_equal_their_rows() -> None:
    hidden, weight, labels = example(24, 0)
    flat = smoothed_cross_entropy(hidden, weight, labels, 0.1)
    batch = smoothed_cross_entropy(hidden.view(4, 6, -1), weight, labels.view(4, 6), 0.1)
    torch.testing.assert_close(flat, batch)


def test_padding_gets_no_gradient_and_has_no_influence() -> None:
    hidden, weight, labels = example(50, 1)
    hidden.requires_grad_()
    loss, _ = smoothed_cross_entropy(hidden, weight, labels, 0.1)
    loss.backward()
    assert not hidden.grad[labels == PAD].any()
    assert (hidden.grad[labels != PAD] != 0).any(1).all()
    real = labels != PAD
    torch.testing.assert_close(loss, smoothed_cross_entropy(hidden[real], weight, labels[real], 0.1)[0])


def test_nothing_but_padding() -> None:
    hidden, weight, labels = example(5, 1)
    hidden.requires_grad_()
    weight.requires_grad_()
    loss, likelihood = smoothed_cross_entropy(hidden, weight, torch.full_like(labels, PAD), 0.1)
    loss.backward()
    assert loss == likelihood == 0
    assert not hidden.grad.any() and not weight.grad.any()


def test_the_least_loss_is_the_entropy_of_the_smoothed_target() -> None:
    """A model that gives the smoothed distribution itself has no gradient left."""
    smoothing, vocab_size = 0.2, 8
    wanted = torch.full((vocab_size,), smoothing / vocab_size)
    wanted[3] += 1 - smoothing
    hidden = torch.eye(vocab_size)[:1].requires_grad_()
    weight = torch.zeros(vocab_size, vocab_size)
    weight[:, 0] = wanted.log()
    loss, _ = smoothed_cross_entropy(hidden, weight, torch.tensor([3]), smoothing)
    assert loss.item() == pytest.approx(-(wanted * wanted.log()).sum().item(), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(hidden.grad, torch.zeros_like(hidden), atol=1e-6, rtol=0)


def test_bfloat16_states_with_float32_weights() -> None:
    hidden, weight, labels = example(300, 2)
    low, full = hidden.bfloat16().requires_grad_(), weight.clone().requires_grad_()
    loss, _ = smoothed_cross_entropy(low, full, labels, 0.1)
    wanted = losses.smoothed_cross_entropy(hidden.double(), weight.double(), labels, 0.1, PAD)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wanted.item(), rel=0.01)
    loss.backward()
    assert (low.grad.dtype, full.grad.dtype) == (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("count", [1, 7, CHUNK + 1, 2 * CHUNK + 300])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_r_drop_and_its_gradients_equal_the_definition(count: int, smoothing: float) -> None:
    first, weight, labels = example(count, 3)
    second = example(count, 4)[0]
    ours = [torch.cat((first, second)).requires_grad_(), weight.clone().requires_grad_()]
    exact = [tensor.double().requires_grad_() for tensor in (first, second, weight)]
    loss, likelihood = smoothed_cross_entropy(*ours, labels, smoothing, r_drop=3.0)
    plain = [losses.smoothed_cross_entropy(hidden, exact[2], labels, smoothing, PAD) for hidden in exact[:2]]
    wanted = (plain[0] + plain[1]) / 2 + 3.0 / 4 * losses.divergence(*exact, labels, PAD)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    both = sum(losses.smoothed_cross_entropy(hidden, exact[2], labels, 0.0, PAD) for hidden in exact[:2])
    assert likelihood.item() == pytest.approx(both.item() / 2, rel=1e-5)
    (loss * 0.37).backward()
    (wanted * 0.37).backward()
    for found, right in zip(ours, (torch.cat((exact[0].grad, exact[1].grad)), exact[2].grad), strict=True):
        torch.testing.assert_close(found.grad, right.float(), atol=1e-4, rtol=1e-4)


def test_what_does_not_differ_has_no_divergence() -> None:
    hidden, weight, labels = example(20, 5)
    twice = smoothed_cross_entropy(torch.cat((hidden, hidden)), weight, labels, 0.1, r_drop=5.0)
    torch.testing.assert_close(twice, smoothed_cross_entropy(hidden, weight, labels, 0.1))


@pytest.mark.parametrize("r_drop", [0.0, 3.0])
def test_bfloat16_gradients_are_near_to_the_definition(r_drop: float) -> None:
    first, weight, labels = example(300, 2)
    second = first + 0.05 * example(300, 4)[0]  # as two draws of dropout: near to each other
    states = torch.cat((first, second) if r_drop else (first,)).bfloat16()
    ours = [states.clone().requires_grad_(), weight.clone().requires_grad_()]
    smoothed_cross_entropy(*ours, labels, 0.1, r_drop)[0].backward()
    exact = [half.double().requires_grad_() for half in states.chunk(2 if r_drop else 1)]
    matrix = weight.bfloat16().double().requires_grad_()
    wanted = sum(losses.smoothed_cross_entropy(half, matrix, labels, 0.1, PAD) for half in exact) / len(exact)
    if r_drop:
        wanted = wanted + r_drop / 4 * losses.divergence(*exact, matrix, labels, PAD)
    wanted.backward()
    for found, right in ((ours[0].grad, torch.cat([half.grad for half in exact])), (ours[1].grad, matrix.grad)):
        assert (found.double() - right).norm() < 0.01 * right.norm()
