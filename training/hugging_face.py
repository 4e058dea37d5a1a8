"""The same weights under Hugging Face's ``generate``: a peer of ``nmt bench decode``.

No architecture of theirs is ours (pre-norm with rotary positions in both halves), so their search, the most used one,
calls our PyTorch step: caches are kept and source keys shared, as in our own search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from model.config import SearchConfig
from model.transformer import DecoderState, Transformer
from model.vocabulary import BOS, EOS, PAD


class HuggingFace(PreTrainedModel, GenerationMixin):
    """``generate`` writes targets, which begin with BOS; the sources are encoded before and wait in ``state``."""

    config_class = PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, model: Transformer, forbidden: Sequence[int]) -> None:
        super().__init__(PretrainedConfig())
        self.model, self.forbidden = model, list(forbidden)
        self.state: DecoderState | None = None

    @torch.inference_mode()
    def translate(self, sources: Sequence[Sequence[int]], beam_size: int) -> list[list[int]]:
        """Ids of a batch of sources -> ids of their translations."""
        padded = pad_sequence([torch.tensor(ids) for ids in sources], batch_first=True, padding_value=PAD)
        self.state = self.model.start(*self.model.encode(padded), beam_size)
        limits = SearchConfig()
        config = GenerationConfig(
            num_beams=beam_size,
            do_sample=False,
            length_penalty=limits.length_penalty,
            max_new_tokens=int(limits.max_length_ratio * padded.shape[1]) + limits.max_length_offset,
            suppress_tokens=self.forbidden,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
            use_cache=True,
        )
        found = self.generate(torch.full((len(sources), 1), BOS), generation_config=config)
        return [[id for id in ids if id not in (BOS, EOS, PAD)] for ids in found.tolist()]

    def prepare_inputs_for_generation(self, input_ids: Tensor, **_: Any) -> dict[str, Tensor]:
        return {"input_ids": input_ids}

    def forward(self, input_ids: Tensor, **_: Any) -> ModelOutput:
        assert self.state is not None
        logits = self.model.decode_step(input_ids[:, -1], self.state).float()
        return ModelOutput(logits=logits[:, None], cache=self.state)

    def _reorder_cache(self, state: DecoderState, rows: Tensor) -> DecoderState:
        self.state = state.select(rows)
        return self.state

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False
