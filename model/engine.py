"""Engine: a model in one arithmetic, and the searches of any number of sources, many at a time."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import torch

from model.config import DTYPES, SearchConfig
from model.errors import UserError
from model.int8 import Int8Model, unsupported
from model.search import SearchPool, SearchResult
from model.transformer import Transformer
from model.vocabulary import Phrase, Vocabulary

log = logging.getLogger(__name__)

POOL_ROWS = 320  # live hypotheses decoded together: enough to feed the matrix units, small enough for the cache

Source = tuple[tuple[int, ...], tuple[Phrase, ...]]  # encoder input, and phrases that its target must hold


class Engine:
    """Runs a model's searches; ``dtype`` is the arithmetic that it uses."""

    def __init__(self, model: Transformer, vocabulary: Vocabulary, dtype: str) -> None:
        """``dtype``: "int8" needs an AVX-512 VNNI processor and the compiled kernels, "auto" takes what is fastest
        here. UserError where it cannot be had.
        """
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype '{dtype}'; choose from {', '.join(DTYPES)}")
        self.model, self.dtype = model, dtype
        self._vocabulary = vocabulary
        self._int8: Int8Model | None = None
        if dtype == "auto":
            self._choose()
        else:
            self._use(dtype)

    def _use(self, dtype: str) -> None:
        self.dtype, self._int8 = dtype, None
        if dtype == "int8":
            if reason := unsupported(self.model):
                raise UserError(f"dtype int8 cannot be had: {reason}; choose float32 or bfloat16")
            self._int8 = Int8Model(self.model, self._vocabulary.unwritable)
        else:
            self.model.to(getattr(torch, dtype))

    def _choose(self) -> None:
        """Use the fastest arithmetic of this machine; where that is not known beforehand, a few sentences tell."""
        device = next(self.model.parameters()).device
        times: dict[str, float] = {}
        if device.type == "cpu" and not unsupported(self.model):
            # Nothing on this CPU comes near, unless it multiplies bfloat16 in tiles
            candidates = ["int8", "bfloat16"] if torch.cpu._is_amx_tile_supported() else ["int8"]
        else:
            candidates = ["float32", "bfloat16"]
        if len(candidates) > 1:
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            for dtype in candidates:
                times[dtype] = self._time(dtype)
                self.model.float().load_state_dict(weights)  # bfloat16 has rounded them
        self._use(min(candidates, key=lambda dtype: times.get(dtype, 0.0)))
        found = ", ".join(f"{dtype} {1000 * seconds:.0f} ms" for dtype, seconds in times.items())
        log.info("decoding in %s on %s%s", self.dtype, device, f" ({found})" if found else "")

    def _time(self, dtype: str) -> float:
        """Seconds for a few sentences, at the second try: the first warms up."""
        self._use(dtype)
        vocabulary, config = self._vocabulary, SearchConfig(max_length_ratio=1e-3, max_length_offset=4)
        sources: list[Source] = [(tuple(vocabulary.source_ids(str(i), vocabulary.languages[0])), ()) for i in range(10)]
        self._run(sources, config, None)
        start = time.perf_counter()
        self._run(sources, config, None)
        return time.perf_counter() - start

    def pool(self, search: SearchConfig) -> SearchPool:
        """An empty pool for sources."""
        decoder = self._int8.decoder(search.rows) if self._int8 else None
        return SearchPool(self.model, search, self._vocabulary.unwritable, decoder, self._vocabulary.edges)

    def search(
        self, searches: Sequence[tuple[Source, SearchConfig]], progress: Callable[[int], object] | None = None
    ) -> list[list[SearchResult]]:
        """The n-best results of each. ``progress`` is called with the number finished since its last call."""
        groups: dict[SearchConfig, list[int]] = {}
        for i, (_, config) in enumerate(searches):
            groups.setdefault(config, []).append(i)
        results: list[list[SearchResult]] = [[] for _ in searches]
        for config, places in groups.items():
            for i, found in zip(places, self._run([searches[i][0] for i in places], config, progress), strict=True):
                results[i] = found
        return results

    def _run(
        self, sources: list[Source], config: SearchConfig, progress: Callable[[int], object] | None
    ) -> list[list[SearchResult]]:
        """Feed a pool from a queue sorted by length, longest first, so that neighbours are padded little."""
        queue = deque(sorted(range(len(sources)), key=lambda i: -len(sources[i][0])))
        results: list[list[SearchResult]] = [[] for _ in sources]
        pool = self.pool(config)
        capacity = max(1, POOL_ROWS // pool.beam)
        waiting: dict[int, int] = {}  # ticket -> index
        while queue or len(pool):
            if queue and len(pool) <= capacity * 3 // 4:  # join in groups: encoding one by one is slow
                joining = [queue.popleft() for _ in range(min(capacity - len(pool), len(queue)))]
                tickets = pool.add([sources[i][0] for i in joining], [sources[i][1] for i in joining])
                waiting.update(zip(tickets, joining, strict=True))
            finished = pool.step()
            for ticket, found in finished:
                results[waiting.pop(ticket)] = found
            if progress and finished:
                progress(len(finished))
        return results
