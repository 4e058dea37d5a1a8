"""A benchmark's engine in a process of its own: its memory and load time are its own, and an idle one takes no core."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from model.errors import UserError


class Worker:
    """``target(pipe, *arguments)`` sends once it is ready and then an answer for each task, until the task is None; an
    exception that it sends is raised here.
    """

    def __init__(self, engine: str, target: Callable[..., None], *arguments: Any) -> None:
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=target, args=(other, *arguments))
        self._process.start()
        other.close()  # so that its end is seen here

    def ask(self, task: Any) -> Any:
        self._pipe.send(task)
        return self.answer()

    def answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise UserError(f"the process of the engine '{self.engine}' has died; is there memory enough?") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        if self._process.is_alive():
            self._pipe.send(None)
        self._process.join()
