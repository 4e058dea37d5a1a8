"""The gRPC server: port, health, reflection, and a life from loading to the last answer."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import signal
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.config import ServiceConfig, host_and_port
from service.errors import ServiceError
from service.scheduler import Scheduler
from service.servicer import TranslationServicer

if TYPE_CHECKING:
    from model.translator import Translator

log = logging.getLogger(__name__)
SERVICE = pb.DESCRIPTOR.services_by_name["TranslationService"].full_name
NOTICE_SECONDS = 0.2  # between NOT_SERVING and the end, at least
SETTLE_SECONDS = 1.0  # for the model to end a batch that nobody waits for any more, at most


class Server:
    """Start it, let it load, drain it. Each of the three is called once, in this order, from one event loop."""

    def __init__(self, load: Callable[[], Translator], config: ServiceConfig) -> None:
        self._config = config
        self._scheduler = Scheduler(load, config)
        self._servicer = TranslationServicer(self._scheduler, config)
        self._health = health.aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Listen, NOT_SERVING as yet, and return the address. Raises ServiceError where the port cannot be had."""
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 0),  # or a second server would take half of the calls, unnoticed
                ("grpc.max_receive_message_length", self._config.max_message_bytes),
            ]
        )
        pb_grpc.add_TranslationServiceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        host, port = host_and_port(self._config.listen)
        require_free(host, port)
        try:
            port = server.add_insecure_port(self._config.listen)
        except RuntimeError as error:
            raise ServiceError(f"cannot listen on {self._config.listen}: {error}") from None
        await server.start()
        self._server = server
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def load(self) -> Translator:
        """Wait until the model is loaded and warm, then report SERVING. Raises what loading raised."""
        translator = await asyncio.wrap_future(self._scheduler.start())
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        return translator

    async def drain(self, seconds: float) -> bool:
        """Report NOT_SERVING, refuse new calls, give those in flight ``seconds``, then cancel what is left.

        True where every call was answered. The model's thread may still be at work: do not wait for it.
        """
        assert self._server is not None
        await self._health.enter_graceful_shutdown()
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

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for service in ("", SERVICE):
            await self._health.set(service, status)


async def serve(load: Callable[[], Translator], config: ServiceConfig) -> bool:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends the drain.
    True where every call was answered.

    Raises ServiceError where the port cannot be had, and what ``load`` raises.
    """
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[str]()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signals.put_nowait, number.name)
    server = Server(load, config)
    address = await server.start()
    log.info("listening on %s, loading the model", address)
    stop = asyncio.create_task(signals.get())
    loading = asyncio.create_task(server.load())
    await asyncio.wait((stop, loading), return_when=asyncio.FIRST_COMPLETED)
    try:
        if loading.done():
            translator = await loading
            log.info("serving %s (%s) on %s", translator.name, ", ".join(translator.languages), address)
        log.info("%s: no new calls, %g s for those in flight", await stop, config.drain_seconds)
    except BaseException:
        stop.cancel()
        await server.drain(0)
        raise
    drain = asyncio.create_task(server.drain(config.drain_seconds if loading.done() else 0))
    again = asyncio.create_task(signals.get())
    await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
    if not drain.done():
        log.info("%s again: leaving at once", await again)
        return False
    again.cancel()
    if not await drain:
        log.warning("calls were cancelled after %g s", config.drain_seconds)
    return drain.result()


def require_free(host: str, port: int) -> None:
    """Raise a ServiceError that names the reason if the address cannot be listened on (gRPC's own does not)."""
    errors: list[OSError] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServiceError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    for family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC: TIME_WAIT does not matter
                probe.bind(address)
        except OSError as error:
            errors.append(error)
    # one of localhost's two addresses may be missing on a machine, but none may be another program's
    in_use = [error for error in errors if error.errno == errno.EADDRINUSE]
    if in_use or len(errors) == len(addresses):
        reason = (in_use or errors)[0].strerror
        raise ServiceError(f"cannot listen on {host}:{port}: {reason}; choose another with --listen HOST:PORT")
