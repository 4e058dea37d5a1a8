"""Every setting of the gateway, in one frozen dataclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import limits

from model.config import check, one_of
from model.errors import UserError
from service.client import Connection, authority
from service.config import LOG_FORMATS, ServiceConfig, host_and_port, parse_settings


@dataclass(frozen=True)
class GatewayConfig:
    """Limits and settings of the gateway. Those of the server hold, too."""

    listen: str = "localhost:8080"  # HOST:PORT; port 0 takes a free one
    server: str = ServiceConfig.listen  # of the gRPC server; several with commas; all addresses of a name take turns
    server_tls: str = ""  # PEM file of the authority of the server's certificate, "system" for those that it trusts
    client_certificate: str = ""  # PEM file of the gateway's own certificate, for mutual TLS with the server
    client_key: str = ""  # PEM file of its private key
    tokens_file: str = ""  # that of the server: its tokens are the API keys; empty: the server judges what it is sent
    timeout_seconds: float = 300.0  # of a call to the server
    max_characters: int = ServiceConfig.max_characters  # a request, all its texts together
    max_body_bytes: int = ServiceConfig.max_message_bytes  # a request that is no document
    max_connections: int = 1000  # at a time; one more is told 503
    rate_limit: str = ""  # of one API key or, without keys, one address: "60/minute", "10/second;1000/day"; empty: none
    cors_origins: str = ""  # pages of other servers that may call: "https://a.example,https://b.example", or "*"
    trusted_proxies: str = ""  # addresses of proxies whose X-Forwarded-For names the client, with commas, or "*"
    metrics_listen: str = ""  # HOST:PORT of Prometheus' /metrics; empty: none
    log_format: str = ServiceConfig.log_format

    def __post_init__(self) -> None:
        host_and_port(self.listen)
        self.connection().addresses()
        if self.metrics_listen:
            host_and_port(self.metrics_listen)
        for name in ("max_characters", "max_body_bytes", "max_connections"):
            check(getattr(self, name) >= 1, f"{name} = {getattr(self, name)} must be at least 1")
        check(self.timeout_seconds > 0, f"timeout_seconds = {self.timeout_seconds} must be above 0")
        check(bool(self.client_certificate) == bool(self.client_key), "client_certificate and client_key go together")
        check(not self.client_key or bool(self.server_tls), "client_certificate needs server_tls")
        one_of("log_format", self.log_format, LOG_FORMATS)
        self.rates()

    @classmethod
    def from_settings(cls, settings: Sequence[str]) -> GatewayConfig:
        """From ``KEY=VALUE`` strings, the later one winning."""
        return parse_settings(cls, settings, "gateway settings")

    def connection(self) -> Connection:
        tls = authority(self.server_tls)
        return Connection(self.server, self.timeout_seconds, "", tls, self.client_certificate, self.client_key)

    def rates(self) -> list[limits.RateLimitItem]:
        try:
            return limits.parse_many(self.rate_limit) if self.rate_limit else []
        except ValueError:
            raise UserError(f"rate_limit = '{self.rate_limit}' is not of the form 60/minute or 10/second") from None
