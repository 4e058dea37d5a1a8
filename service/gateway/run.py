"""The gateway as a process: from the port to the last answer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket

import uvicorn
from prometheus_client import start_http_server
from starlette.types import ASGIApp

from model.errors import UserError
from service.config import host_and_port
from service.gateway.app import create_app
from service.gateway.config import GatewayConfig
from service.gateway.guard import GatewayMetrics
from service.supervisor import WEB_SOCKET, listen_for_web

log = logging.getLogger(__name__)
DRAIN_SECONDS = 10  # after SIGTERM or SIGINT, for the answers under way


def serve(config: GatewayConfig) -> None:
    """Serve until SIGTERM or SIGINT, or until the supervisor is gone, if there is one. ServiceError where the
    port cannot be had."""
    parent = os.getppid() if WEB_SOCKET in os.environ else None
    metrics = GatewayMetrics()
    app = create_app(config, metrics)
    listener = listen(config.listen)
    if config.metrics_listen:
        host, port = host_and_port(config.metrics_listen)
        try:
            start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise UserError(f"metrics_listen = {config.metrics_listen}: {error.strerror}") from None
    server = uvicorn_server(app, config)
    address = listener.getsockname()
    host, port = address[0], address[1]
    log.info("web page and HTTP API on http://%s:%d, for %s", f"[{host}]" if ":" in host else host, port, config.server)

    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn has its own while it runs, and raises them again after
        signal.signal(number, lambda *_: None)

    async def run() -> None:
        watch = asyncio.create_task(end_with(parent, server)) if parent else None
        await server.serve([listener])
        if watch:
            watch.cancel()

    asyncio.run(run())


def uvicorn_server(app: ASGIApp, config: GatewayConfig) -> uvicorn.Server:
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,  # ours, which is set up already
            access_log=False,  # metrics count; a path may be a name that only one client should know
            lifespan="on",
            limit_concurrency=config.max_connections + 1,  # it counts the one that asks, and refuses at the limit
            forwarded_allow_ips=config.trusted_proxies or [],
            proxy_headers=bool(config.trusted_proxies),
            server_header=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )


async def end_with(parent: int, server: uvicorn.Server) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(1)
    server.should_exit = True


def listen(address: str) -> socket.socket:
    """The socket that a supervisor handed down, or a new one."""
    if inherited := os.environ.get(WEB_SOCKET):
        return socket.socket(fileno=int(inherited))
    return listen_for_web(address, "--listen HOST:PORT")
