"""The gRPC server: port, health, reflection, and a life from loading to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from model.errors import UserError
from model.machine import cores
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.access import TokenInterceptor, read_tokens, server_credentials
from service.config import ServiceConfig, host_and_port
from service.errors import ServiceError
from service.glossaries import Glossaries
from service.google import GoogleHandler, GoogleServicer
from service.metrics import Metrics
from service.models import Models
from service.observe import CallInterceptor, tracing_interceptor
from service.scheduler import Scheduler
from service.servicer import TranslationServicer
from service.supervisor import require_free

if TYPE_CHECKING:
    from model.translator import Translator

log = logging.getLogger(__name__)
MODEL_THREADS = 4  # at most: what is Python in them is never parallel
SWITCH_SECONDS = 1e-4  # after which a thread leaves Python to another that waits for it; the cores idle meanwhile
SERVICE = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
NOTICE_SECONDS = 0.2  # between NOT_SERVING and the end, at least
SETTLE_SECONDS = 1.0  # for the model to end a step that nobody waits for any more, at most
COMPRESSION = {
    "none": grpc.Compression.NoCompression,
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
}
# A connection that is silent for a minute is probed, so that a vanished client does not keep its rows; clients may
# probe as often as every 10 s.
KEEPALIVE = [
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
]


class Server:
    """Start it, let it load, drain it. Each of the three is called once, in this order, from one event loop; where
    others answer on the port meanwhile, it may load first.

    ``paths`` and ``load`` as in ``service.models``. ``shared_port``: other processes may listen on it, too.
    ``threads``: of the model.
    """

    def __init__(
        self,
        paths: Sequence[Path | None],
        load: Callable[[Path | None], Translator],
        config: ServiceConfig,
        shared_port: bool = False,
        threads: int = 1,
    ) -> None:
        self._config, self._shared_port = config, shared_port
        self.metrics = Metrics()
        self._scheduler = Scheduler(config, self.metrics, threads)
        self.metrics.queue_tokens.set_function(lambda: self._scheduler.waiting_tokens)
        self.models = Models(paths, load, self._scheduler, self._model_changed)
        self.glossaries = Glossaries(config.glossaries)
        self._servicer = TranslationServicer(self.models, self.glossaries, self._scheduler, config, self.metrics)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Listen, NOT_SERVING until it is loaded, and return the address. UserError for files of the configuration that
        cannot be used, ServiceError where the port cannot be had."""
        config = self._config
        interceptors: list[grpc.aio.ServerInterceptor] = [CallInterceptor(self.metrics)]
        if config.otlp_endpoint:
            interceptors.insert(0, tracing_interceptor(config.otlp_endpoint))
        credentials = server_credentials(config)
        if config.tokens_file:
            interceptors.insert(0, TokenInterceptor(read_tokens(config.tokens_file), self.metrics))
            if credentials is None:
                log.warning("tokens travel unencrypted: set tls_certificate and tls_key, or let a proxy do TLS")
        server = grpc.aio.server(
            interceptors=interceptors,
            options=[
                # else a second server would take half of the calls, unnoticed
                ("grpc.so_reuseport", int(self._shared_port)),
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.http2.bdp_probe", 0),  # 64 KiB unread a stream, not megabytes: texts need no more
                *max_age(config.max_connection_seconds),
                *KEEPALIVE,
            ],
            compression=COMPRESSION[config.compression],
        )
        pb_grpc.add_TranslationServiceServicer_to_server(self._servicer, server)
        server.add_generic_rpc_handlers((GoogleHandler(GoogleServicer(self._servicer)),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        if not self.models.by_name:
            for service in ("", SERVICE):
                await self._health.set(service, NOT_SERVING)
        host, port = host_and_port(config.listen)
        if not self._shared_port:
            require_free(host, port)
        try:
            if credentials is None:
                port = server.add_insecure_port(config.listen)
            else:
                port = server.add_secure_port(config.listen, credentials)
        except RuntimeError as error:
            raise ServiceError(f"cannot listen on {config.listen}: {error}") from None
        if config.metrics_listen:
            log.info("metrics on http://%s/metrics", self.metrics.listen(config.metrics_listen))
        await server.start()
        self._server = server
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def load(self) -> None:
        """Wait until the models are loaded and warm, then report SERVING. Raises what loading raised."""
        await self.models.reload()
        for service in ("", SERVICE):
            await self._health.set(service, SERVING)

    async def drain(self, seconds: float) -> bool:
        """Report NOT_SERVING, refuse new calls, give those in flight ``seconds``, then cancel what is left.

        True where every call was answered. The model's thread may still be at work: do not wait for it.
        """
        if self._server is None:
            return True
        await self._health.enter_graceful_shutdown()
        self._servicer.draining.set()
        # gRPC's own grace waits for all calls, also for those that never end, such as a health watch. So it is cut
        # short when no translation is in flight, after a moment in which calls on their way can arrive.
        stopping = asyncio.create_task(self._server.stop(seconds + 2 * NOTICE_SECONDS))
        await asyncio.sleep(min(seconds, NOTICE_SECONDS))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._servicer.idle.wait(), seconds)
        answered = self._servicer.idle.is_set()
        await self._server.stop(0)
        await stopping
        await asyncio.to_thread(self._scheduler.close, min(seconds, SETTLE_SECONDS))
        return answered

    async def _model_changed(self, name: str, loaded: bool) -> None:
        self.metrics.model_loaded.labels(name).set(int(loaded))
        await self._health.set(f"{SERVICE}/{name}", SERVING if loaded else NOT_SERVING)


def max_age(seconds: float) -> list[tuple[str, int]]:
    return [("grpc.max_connection_age_ms", int(1000 * seconds))] if seconds else []


async def serve(
    paths: Sequence[Path | None],
    load: Callable[[Path | None], Translator],
    config: ServiceConfig,
    worker: bool = False,
    late: bool = False,
) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain. SIGHUP looks for models again.
    True where every call was answered. ``worker``: of a supervisor, whose port it shares and with whom it ends.
    ``late``: others serve already, so it listens only once it can answer, too.

    Raises ServiceError where the port cannot be had, UserError where no model can be loaded.
    """
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)
    sys.setswitchinterval(SWITCH_SECONDS)
    share = max(1, cores() // config.workers)
    threads = min(share, MODEL_THREADS)
    os.environ["OMP_NUM_THREADS"] = str(share // threads)  # of PyTorch in each; it is not imported yet
    server = Server(paths, load, config, shared_port=worker, threads=threads)
    looking: set[asyncio.Task[None]] = set()  # asyncio itself forgets them

    def look() -> None:
        looking.add(task := asyncio.create_task(look_again(server)))
        task.add_done_callback(looking.discard)

    loop.add_signal_handler(signal.SIGHUP, look)
    address = "" if late else await server.start()
    log.info("%sloading the model", address and f"listening on {address}, ")
    stop = asyncio.create_task(signals.get())
    loading = asyncio.create_task(server.load())
    orphaned = asyncio.create_task(watch_parent(signals)) if worker else None
    await asyncio.wait((stop, loading), return_when=asyncio.FIRST_COMPLETED)
    try:
        if loading.done():
            await loading
            address = address or await server.start()
            for name, languages in server.models.languages.items():
                log.info("serving %s (%s) on %s", name, ", ".join(languages), address)
        log.info("%s: no new calls, %g s for those in flight", await stop, config.drain_seconds)
    except BaseException:
        stop.cancel()
        await server.drain(0)
        raise
    drain = asyncio.create_task(server.drain(config.drain_seconds if loading.done() else 0))
    again = asyncio.create_task(signals.get())
    await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
    if orphaned:
        orphaned.cancel()
    if not drain.done():
        log.info("%s again: leaving at once", await again)
        return False
    again.cancel()
    if not await drain:
        log.warning("calls were cancelled after %g s", config.drain_seconds)
    return drain.result()


async def look_again(server: Server) -> None:
    log.info("SIGHUP: looking for models and glossaries again")
    reloads = {"glossaries": lambda: asyncio.to_thread(server.glossaries.reload), "models": server.models.reload}
    for what, reload in reloads.items():
        try:
            await reload()
        except UserError as error:
            log.error("the %s stay as they are: %s", what, error)
        except Exception as error:
            log.error("the %s stay as they are", what, exc_info=error)


async def watch_parent(signals: asyncio.Queue[str]) -> None:
    """A worker does not outlive its supervisor."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    signals.put_nowait("the supervisor is gone")
