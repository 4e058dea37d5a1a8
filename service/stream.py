"""A window over a stream of texts: bounded work in flight, results in the order in which they are ready."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from service.validation import characters_of

T = TypeVar("T")


class Window:
    """Reads texts while fewer than ``characters`` are in flight (or one text), and no more once ``stop`` is set."""

    def __init__(self, characters: int, stop: asyncio.Event) -> None:
        self._limit, self._stop = characters, stop
        self._in_flight = 0  # characters that were read and whose result was not taken yet
        self._room = asyncio.Event()
        self.answered = 0  # results that were taken
        self.cut_short = False  # whether texts were left unread

    async def run(self, texts: AsyncIterator[str], answer: Callable[[int, str], Awaitable[T]]) -> AsyncIterator[T]:
        """``answer(index, text)`` of each text, as soon as it is ready. Raises what reading raises, after the results
        of the texts before; on the way out, all that is unfinished is cancelled."""
        ready: asyncio.Queue[tuple[T, int] | BaseException | None] = asyncio.Queue()  # as bounded as the window
        tasks: set[asyncio.Task[None]] = set()

        async def work(index: int, text: str) -> None:
            ready.put_nowait((await answer(index, text), characters_of(text)))

        async def read() -> None:
            index = 0
            async for text in texts:
                self._in_flight += characters_of(text)
                task = asyncio.create_task(work(index, text))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                index += 1
                while self._in_flight >= self._limit:
                    self._room.clear()
                    await self._room.wait()

        async def read_until_stopped() -> None:
            reading, stopping = asyncio.create_task(read()), asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
                self.cut_short = not reading.done()
                error = None if self.cut_short else reading.exception()
            finally:
                reading.cancel()
                stopping.cancel()
            await asyncio.gather(*tasks)
            ready.put_nowait(error)

        reader = asyncio.create_task(read_until_stopped())
        try:
            while isinstance(item := await ready.get(), tuple):
                yield item[0]  # comes back when the answer is on the wire
                self.answered += 1
                self._in_flight -= item[1]
                self._room.set()
            if item is not None:
                raise item
        finally:
            reader.cancel()
            for task in tasks:
                task.cancel()
