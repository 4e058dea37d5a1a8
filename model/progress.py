"""How a long call says how far it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with how many more are done. True: a bar, in a terminal or as a widget in a notebook.
Progress = Callable[[int], object] | bool | None


@contextmanager
def reporting(progress: Progress, total: int, unit: str) -> Iterator[Callable[[int], object] | None]:
    """What to call with how many more of ``total`` are done; the bar is closed at the end."""
    if progress is True:
        from tqdm.auto import tqdm

        with tqdm(total=total, unit=f" {unit}") as bar:
            yield bar.update
    else:
        yield progress or None
