"""Every number of the service, in one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from model.config import check, from_dict
from model.errors import UserError


@dataclass(frozen=True)
class ServiceConfig:
    """Limits of the server. A character is a Unicode code point; an empty text counts as one."""

    listen: str = "localhost:50051"  # HOST:PORT; port 0 takes a free one
    max_contents: int = 1024  # texts a request
    max_characters: int = 200_000  # a request, all its texts together: about 30 pages a minute on two cores
    max_message_bytes: int = 4 << 20  # a request on the wire
    batch_characters: int = 8_000  # what the model translates in one go: a second or two of work on two cores
    queue_characters: int = 400_000  # waiting for the model; a request beyond is refused at once
    drain_seconds: float = 30.0  # after SIGTERM, for the calls in flight

    def __post_init__(self) -> None:
        host_and_port(self.listen)
        for name in ("max_contents", "max_characters", "max_message_bytes", "batch_characters"):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        check(
            self.queue_characters >= self.max_characters,
            f"queue_characters = {self.queue_characters} must be at least max_characters = {self.max_characters}",
        )
        check(self.drain_seconds >= 0, f"drain_seconds = {self.drain_seconds} must not be negative")

    @classmethod
    def from_settings(cls, settings: Sequence[str]) -> ServiceConfig:
        """From ``KEY=VALUE`` strings, the later one winning."""
        kinds = {name: type(default) for name, default in dataclasses.asdict(cls()).items()}
        values: dict[str, object] = {}
        for setting in settings:
            key, equals, text = setting.partition("=")
            check(bool(equals), f"'{setting}' is not of the form KEY=VALUE")
            try:
                values[key] = kinds.get(key, str)(text)
            except ValueError:
                raise UserError(f"{key} = '{text}' is not a number") from None
        return from_dict(cls, values, "service settings")


def host_and_port(address: str) -> tuple[str, int]:
    """``"localhost:50051"`` or ``"[::1]:50051"`` in its two parts; UserError for anything else."""
    host, _, port = address.rpartition(":")
    valid = host and port.isascii() and port.isdigit() and int(port) < 65536
    check(bool(valid) and (":" not in host or host[0] + host[-1] == "[]"), f"'{address}' is not of the form HOST:PORT")
    return host.strip("[]"), int(port)
