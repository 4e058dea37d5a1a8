"""What Prometheus sees. Labels have few values (methods, status codes, model names of the operator), never text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from model.errors import UserError
from service.config import host_and_port

if TYPE_CHECKING:
    from model.translator import Translation

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 5, 10, 20, 40, 80, 160, 240, 320, 640)


class Metrics:
    """One registry a server: several can live in a process, as in tests."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.calls = Counter("nmt_calls", "Finished calls.", ("method", "code"), registry=registry)
        self.call_seconds = Histogram(
            "nmt_call_seconds", "From a call's arrival to its end.", ("method",), buckets=SECONDS, registry=registry
        )
        self.refusals = Counter("nmt_refusals", "Requests that were refused unread.", ("reason",), registry=registry)
        self.queue_seconds = Histogram(
            "nmt_queue_seconds", "Of a sentence, until it joins the model.", buckets=SECONDS, registry=registry
        )
        self.queue_tokens = Gauge("nmt_queue_tokens", "Tokens that wait for the model.", registry=registry)
        self.step_rows = Histogram(
            "nmt_step_rows", "Batch fill: hypotheses decoded in one step.", buckets=ROWS, registry=registry
        )
        self.tokens = Counter("nmt_tokens", "Of finished translations.", ("side",), registry=registry)
        self.warnings = Counter("nmt_warnings", "Translations with a warning.", ("code",), registry=registry)
        self.model_loaded = Gauge("nmt_model_loaded", "1 while a model is served.", ("model",), registry=registry)

    def translated(self, translation: Translation, source_tokens: int) -> None:
        self.tokens.labels("source").inc(source_tokens)
        self.tokens.labels("target").inc(len(translation.hypotheses[0].tokens))
        for code in {warning.code for warning in translation.warnings}:
            self.warnings.labels(code).inc()

    def listen(self, address: str) -> str:
        """Serve /metrics over HTTP from a thread; returns HOST:PORT. UserError where the port cannot be had."""
        host, port = host_and_port(address)
        try:
            server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise UserError(f"metrics_listen = {address}: {error.strerror}; choose another port") from None
        return f"{host}:{server.server_port}"
