"""What a translation is: the transformer, its vocabulary, its search, and the Translator that joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.translator import Translator

__all__ = ["Translator"]


def __getattr__(name: str) -> Any:
    """``from model import Translator`` loads torch only when it is asked for."""
    if name == "Translator":
        from model.translator import Translator

        return Translator
    raise AttributeError(f"module 'model' has no attribute '{name}'")
