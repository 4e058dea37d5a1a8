"""Every number of the service, in one frozen dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from model.config import MAX_BEAM, check, from_dict, one_of
from model.errors import UserError

LOG_FORMATS = ("auto", "json", "text")
WEB_LISTEN = "localhost:8080"
Config = TypeVar("Config")


@dataclass(frozen=True)
class ServiceConfig:
    """Limits and settings of the server. A character is a Unicode code point; an empty text counts as one. A token is
    a piece that the model reads: of English and German about four characters."""

    listen: str = "localhost:50051"  # HOST:PORT; port 0 takes a free one
    web: str = "auto"  # HOST:PORT of the web page and HTTP API; "auto": localhost:8080 unless there is TLS; "off": none
    workers: int = 1  # processes that share the port, each with models, queue and limits of its own
    max_contents: int = 1024  # texts a request; our clients send up to 256 (20,000 characters), or less once refused
    max_characters: int = 200_000  # a request, all its texts together: about 30 pages a minute on two cores
    max_message_bytes: int = 4 << 20  # a request on the wire
    stream_characters: int = 20_000  # of one TranslateStream in work: what is beyond is not read from the wire
    queue_tokens: int = 100_000  # waiting for the model; a request beyond is refused at once
    pool_rows: int = 320  # live hypotheses decoded together, of all requests: enough to feed the matrix units
    glossaries: str = ""  # files, folders of *.tsv or NAME=FILE, separated by commas: glossaries kept by name
    max_glossary_entries: int = 5000  # terms that a request brings with it
    drain_seconds: float = 30.0  # after SIGTERM, for the calls in flight
    max_connection_seconds: float = 0.0  # then a client connects anew, and sees new replicas; 0: a connection may last
    tls_certificate: str = ""  # PEM file with the server's certificate chain; empty: no TLS
    tls_key: str = ""  # PEM file with its private key
    tls_client_ca: str = ""  # PEM file; with it, only clients with a certificate of this authority may call
    tokens_file: str = ""  # one bearer token a line; empty: anyone may call
    compression: str = "none"  # of answers: "none", "gzip" or "deflate"; requests may use any
    metrics_listen: str = ""  # HOST:PORT of Prometheus' /metrics (worker i adds i to the port); empty: none
    otlp_endpoint: str = ""  # URL of an OpenTelemetry collector (gRPC); needs nmt[otel]; empty: no traces
    log_format: str = "auto"  # "json", "text", or "auto": text on a terminal, else JSON

    def __post_init__(self) -> None:
        host_and_port(self.listen)
        if self.metrics_listen:
            host_and_port(self.metrics_listen)
        for name in ("workers", "max_contents", "max_characters", "max_message_bytes", "stream_characters"):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        for name in ("max_glossary_entries", "queue_tokens"):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        check(self.pool_rows >= MAX_BEAM, f"pool_rows = {self.pool_rows} must be at least {MAX_BEAM}, the widest beam")
        for name in ("drain_seconds", "max_connection_seconds"):
            check(getattr(self, name) >= 0, f"{name} = {getattr(self, name)} must not be negative")
        one_of("compression", self.compression, ("none", "gzip", "deflate"))
        one_of("log_format", self.log_format, LOG_FORMATS)
        check(bool(self.tls_certificate) == bool(self.tls_key), "tls_certificate and tls_key go together")
        if self.web not in ("auto", "off"):
            host_and_port(self.web)
            check(not self.tls_key, "web: not beside TLS, for it would need a certificate; run 'nmt gateway' instead")
        check(not self.tls_client_ca or bool(self.tls_key), "tls_client_ca needs tls_certificate and tls_key")

    @classmethod
    def from_settings(cls, settings: Sequence[str]) -> ServiceConfig:
        """From ``KEY=VALUE`` strings, the later one winning."""
        return parse_settings(cls, settings, "service settings")

    @property
    def web_listen(self) -> str:
        """Where the web page is to be; empty: there is none."""
        if self.web == "auto":
            return "" if self.tls_key else WEB_LISTEN
        return "" if self.web == "off" else self.web

    def for_worker(self, number: int, listen: str) -> ServiceConfig:
        """The settings of one worker of several: the port that all share, and a port of its own for metrics."""
        metrics = self.metrics_listen
        if metrics:
            host, port = metrics.rsplit(":", 1)
            metrics = f"{host}:{int(port) + number}"
        return dataclasses.replace(self, listen=listen, metrics_listen=metrics)


def parse_settings(cls: type[Config], settings: Sequence[str], what: str) -> Config:
    """A dataclass of numbers and strings from ``KEY=VALUE`` strings, the later one winning."""
    kinds = {name: type(default) for name, default in dataclasses.asdict(cls()).items()}  # type: ignore[call-overload]
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        check(bool(equals), f"'{setting}' is not of the form KEY=VALUE")
        try:
            values[key] = kinds.get(key, str)(text)
        except ValueError:
            raise UserError(f"{key} = '{text}' is not a number") from None
    return from_dict(cls, values, what)


def host_and_port(address: str) -> tuple[str, int]:
    """``"localhost:50051"`` or ``"[::1]:50051"`` in its two parts; UserError for anything else."""
    host, _, port = address.rpartition(":")
    valid = host and port.isascii() and port.isdigit() and int(port) < 65536
    check(bool(valid) and (":" not in host or host[0] + host[-1] == "[]"), f"'{address}' is not of the form HOST:PORT")
    return host.strip("[]"), int(port)
