"""The models of a server: loaded, replaced and unloaded while it serves.

Each path is a checkpoint or a folder of checkpoints. ``reload`` looks again: what is new or has changed is loaded
beside the old one and takes its place once it is warm; what is gone is unloaded; what cannot be loaded is refused with
a line in the log, and the old one of that name stays. Requests in flight end with the model they began with.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import SearchConfig
from model.errors import CheckpointError, UserError
from service.detection import detect
from service.jobs import Caller, How
from service.scheduler import Scheduler

if TYPE_CHECKING:
    from model.translator import Translator

log = logging.getLogger(__name__)
CONFIG = "config.json"  # of a checkpoint; model.checkpoint would bring torch with it
WARM_UP_SENTENCES = 64  # fill the pool: the first step is the slowest, and the speed is measured


@dataclass(frozen=True)
class _Loaded:
    translator: Translator
    stamp: bytes  # the configuration, which holds the hashes of all else


class Models:
    """``load`` reads a checkpoint (None: the shipped one) on another thread; ``changed`` hears of each model that
    comes (True) or goes (False). All methods are of one event loop."""

    def __init__(
        self,
        paths: Sequence[Path | None],
        load: Callable[[Path | None], Translator],
        scheduler: Scheduler,
        changed: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._paths, self._load, self._scheduler, self._changed = paths, load, scheduler, changed
        self._loaded: dict[Path | None, _Loaded] = {}
        self._reloading = asyncio.Lock()

    @property
    def by_name(self) -> dict[str, Translator]:
        """The default model first."""
        return {loaded.translator.name: loaded.translator for loaded in self._loaded.values()}

    @property
    def languages(self) -> dict[str, Sequence[str]]:
        """Of each model; who only wants to know them does not hold the models."""
        return {name: translator.languages for name, translator in self.by_name.items()}

    async def reload(self) -> None:
        """Look at all paths again. UserError of the first failure if no model at all is left."""
        async with self._reloading:
            found = [place for path in self._paths for place in _checkpoints(path)]
            failures = []
            for place in found:
                try:
                    await self._refresh(place)
                except UserError as error:
                    failures.append(error)
                    old = "; the old one stays" if place in self._loaded else ""
                    log.error("model refused: %s%s", error, old)
            if not self._loaded:
                raise failures[0] if failures else CheckpointError("no model: the folder holds no checkpoint")
            gone = [place for place in self._loaded if place not in found]
            for place in gone if len(gone) < len(self._loaded) else []:  # the last one stays
                name = self._loaded.pop(place).translator.name
                await self._changed(name, False)
                log.info("unloaded %s", name)
            order = {place: number for number, place in enumerate(found)}
            self._loaded = dict(sorted(self._loaded.items(), key=lambda item: order.get(item[0], len(order))))

    async def _refresh(self, place: Path | None) -> None:
        stamp = await asyncio.to_thread(_stamp, place)
        old = self._loaded.get(place)
        if old and old.stamp == stamp:
            return
        begin = time.monotonic()
        translator = await _in_daemon(self._load, place)
        if any(loaded.translator.name == translator.name for at, loaded in self._loaded.items() if at != place):
            raise UserError(f"two models are named {translator.name}; rename the folder {place}")
        await self._warm_up(translator)
        self._loaded[place] = _Loaded(translator, stamp)
        await self._changed(translator.name, True)
        log.info("loaded %s in %.1f s", translator.name, time.monotonic() - begin)

    async def _warm_up(self, translator: Translator) -> None:
        source, target = translator.languages[:2]
        await asyncio.to_thread(detect, "Good morning.", translator.languages, True)  # loads tables when first asked
        documents = [translator.prepare(f"Good morning, number {i}.", source, target) for i in range(WARM_UP_SENTENCES)]
        caller = Caller("server", "warm-up", math.inf)
        how = How(translator, source, target, SearchConfig())
        try:
            for future in self._scheduler.submit(documents, how, caller, limited=False):
                await asyncio.wrap_future(future)
        except UserError:
            raise
        except Exception as error:
            raise CheckpointError(f"model {translator.name} cannot translate: {error!r}") from error


async def _in_daemon(load: Callable[[Path | None], Translator], place: Path | None) -> Translator:
    """As asyncio.to_thread, but the end of the process does not wait for it."""
    future: Future[Translator] = Future()
    future.set_running_or_notify_cancel()  # who waits for it cannot cancel it

    def run() -> None:
        try:
            future.set_result(load(place))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await asyncio.wrap_future(future)


def _checkpoints(path: Path | None) -> list[Path | None]:
    """The checkpoints at a path: itself, or those in it if it is a folder of them."""
    if path is None or (path / CONFIG).exists() or not path.is_dir():
        return [path]
    inside: list[Path | None] = [config.parent for config in sorted(path.glob(f"[!.]*/{CONFIG}"))]
    return inside or [path]


def _stamp(place: Path | None) -> bytes:
    try:
        return (place / CONFIG).read_bytes() if place else b""
    except OSError:
        return b""  # loading says what is wrong
