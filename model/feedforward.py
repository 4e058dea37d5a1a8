"""The position-wise feed-forward layer: the same two or three matrices for every position."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

from model.config import ModelConfig
from model.dropout import Dropout


class FeedForward(nn.Module):
    """W2 f(W1 x + b1) + b2 with f = ReLU (Vaswani et al. 2017, equation 2) or GELU (Hendrycks & Gimpel 2016);
    "swiglu" is W2 (silu(Wg x) * W1 x) (Shazeer 2020), its inner width cut to 2/3 so that the size stays equal.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        gated = config.activation == "swiglu"
        width = max(8, config.d_ff * 2 // 3 // 8 * 8) if gated else config.d_ff
        self.inner = nn.Linear(config.d_model, width)
        self.gate = nn.Linear(config.d_model, width) if gated else None
        self.output = nn.Linear(width, config.d_model)
        activations: dict[str, Callable[[Tensor], Tensor]] = {
            "relu": functional.relu,
            "gelu": functional.gelu,
            "swiglu": functional.silu,
        }
        self.activation = activations[config.activation]
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, T, E) -> (B, T, E). ``real`` is for the mixture of experts; here no position minds its neighbours."""
        inner = self.inner(x)
        inner = self.activation(inner) if self.gate is None else self.activation(self.gate(x)) * inner
        return self.output(self.dropout(inner))
