"""The service and its clients.

>>> from service import Client
>>> with Client("localhost:50051") as client:
...     client.translate(["Good morning."], "en", "de")[0].translated_text
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client import AsyncClient, Client
    from service.errors import ServiceError

__all__ = ["AsyncClient", "Client", "ServiceError"]


def __getattr__(name: str) -> Any:
    """``import service`` is light: grpc is loaded when a client is asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'service' has no attribute '{name}'")
    module = "errors" if name == "ServiceError" else "client"
    return getattr(importlib.import_module(f"service.{module}"), name)


def __dir__() -> list[str]:
    return __all__
