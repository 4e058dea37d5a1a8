"""Slow, plain NumPy versions of what model/attention.py and model/embedding.py compute, straight from the papers."""

from __future__ import annotations

import cmath
import math

import numpy as np


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """One head, one query at a time. query (T, D), key and value (S, D), mask (T, S): True = may attend. -> (T, D)"""
    mixed = np.zeros_like(query)
    for t in range(len(query)):
        seen = [s for s in range(len(key)) if mask[t, s]]
        scores = [math.exp(float(query[t] @ key[s]) / math.sqrt(query.shape[1])) for s in seen]
        for s, score in zip(seen, scores, strict=True):
            mixed[t] += score / sum(scores) * value[s]
    return mixed


def sinusoid(position: int, dimension: int, width: int) -> float:
    """Vaswani et al. 2017, section 3.5."""
    angle = position / 10000 ** ((dimension - dimension % 2) / width)
    return math.cos(angle) if dimension % 2 else math.sin(angle)


def rotate(x: np.ndarray, position: int) -> np.ndarray:
    """Su et al. 2021 as complex numbers: x (D,), dimensions i and i + D/2 are the two parts of number i."""
    half = len(x) // 2
    turned = np.empty_like(x)
    for i in range(half):
        number = complex(x[i], x[i + half]) * cmath.exp(1j * position * 10000 ** (-2 * i / len(x)))
        turned[i], turned[i + half] = number.real, number.imag
    return turned
