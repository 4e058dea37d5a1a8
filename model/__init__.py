"""What a translation is: the transformer, its vocabulary, its search, and the Translator that joins them.

>>> from model import SearchConfig, Translator
>>> Translator.load().translate(["Good morning."], "en", "de", SearchConfig(beam_size=1))[0].text
'Guten Morgen.'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.config import ModelConfig, SearchConfig
    from model.errors import CheckpointError, UserError
    from model.explain import Explanation
    from model.glossary import Glossary
    from model.translator import Hypothesis, Translation, Translator

__all__ = [
    "CheckpointError",
    "Explanation",
    "Glossary",
    "Hypothesis",
    "ModelConfig",
    "SearchConfig",
    "Translation",
    "Translator",
    "UserError",
]
_MODULES = {
    "CheckpointError": "errors",
    "UserError": "errors",
    "Explanation": "explain",
    "Glossary": "glossary",
    "ModelConfig": "config",
    "SearchConfig": "config",
}


def __getattr__(name: str) -> Any:
    """``import model`` is light: torch is loaded when Translator is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'model' has no attribute '{name}'")
    return getattr(importlib.import_module(f"model.{_MODULES.get(name, 'translator')}"), name)


def __dir__() -> list[str]:
    return __all__
