"""The processes of `nmt serve`: workers on one port, over which the kernel spreads connections (SO_REUSEPORT), and the
web page.

Each worker is the same command once more, told by its environment that it is one; the web page is `nmt gateway`, told
which socket is its own. One that dies is started again; SIGTERM and SIGINT are passed on and end all; SIGHUP is passed
on to the workers, which look for models again. The supervisor itself imports neither gRPC nor torch.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

from service.config import ServiceConfig, host_and_port
from service.errors import ServiceError

log = logging.getLogger(__name__)
WORKER = "NMT_WORKER"  # in the environment of a worker: NUMBER@HOST:PORT
AGAIN = "NMT_AGAIN"  # in the environment of a process that was started again
WEB_SOCKET = "NMT_WEB_SOCKET"  # in the environment of the web page: the file descriptor where it listens
BAD_INPUT = 2  # the exit code that starting again would not change
POLL_SECONDS = 0.1
PAUSE_SECONDS = (0.2, 30.0)  # before a process is started again: doubled each time it did not live for a minute
STEADY_SECONDS = 60.0


def this_worker() -> tuple[int, str] | None:
    """Number, from 0, and shared address of this process; None: it is no worker."""
    number, _, listen = os.environ.get(WORKER, "").partition("@")
    return (int(number), listen) if number else None


def is_again() -> bool:
    """Whether this process takes the place of one that died."""
    return AGAIN in os.environ


class Child:
    """One process and what is known of it. ``sockets`` are handed down to it."""

    def __init__(
        self, name: str, command: Sequence[str], environment: dict[str, str], sockets: Sequence[int] = ()
    ) -> None:
        self.name, self._command, self._environment, self._sockets = name, command, environment, sockets
        self.pause = PAUSE_SECONDS[0]
        self.start()

    def start(self) -> None:
        # A process group of its own: Ctrl-C reaches it once, through the supervisor.
        self.process = subprocess.Popen(
            self._command, env=os.environ | self._environment, pass_fds=self._sockets, process_group=0
        )
        self.begin = time.monotonic()
        self.again_at: float | None = None  # when to start it again, once it is dead
        log.info("%s is process %d", self.name, self.process.pid)

    def died(self) -> None:
        lived = time.monotonic() - self.begin
        self.pause = PAUSE_SECONDS[0] if lived >= STEADY_SECONDS else min(2 * self.pause, PAUSE_SECONDS[1])
        self.again_at = time.monotonic() + self.pause
        self._environment = self._environment | {AGAIN: "1"}
        log.error("%s ended with %d; a new one in %.1f s", self.name, self.process.returncode, self.pause)


def worker(number: int, listen: str) -> Child:
    return Child(f"worker {number}", [sys.executable, *sys.orig_argv[1:]], {WORKER: f"{number}@{listen}"})


def web_page(config: ServiceConfig, server: str, listener: socket.socket) -> Child:
    """``config``: of the gRPC server, whose limits and keys hold for the web page, too."""
    settings = {
        "tokens_file": config.tokens_file,
        "max_characters": config.max_characters,
        "max_body_bytes": config.max_message_bytes,
        "log_format": config.log_format,
    }
    command = [sys.executable, "-m", "service.cli", "gateway", "--server", server, "--listen", config.web_listen]
    for name, value in settings.items():
        command += ["--set", f"{name}={value}"]
    return Child("the web page", command, {WEB_SOCKET: str(listener.fileno())}, [listener.fileno()])


def supervise(config: ServiceConfig) -> int:
    """Run the processes until a signal ends them; returns the exit code: 0, or the worst of theirs.

    Raises ServiceError where a port cannot be had.
    """
    reserved, listen = reserve(config.listen)
    listener = listen_for_web(config.web_listen, "--web HOST:PORT, or --web off") if config.web_listen else None
    ending = False
    workers: list[Child] = []
    children: list[Child] = []  # and the web page

    def pass_on(number: int, _: FrameType | None) -> None:
        nonlocal ending
        ending = ending or number != signal.SIGHUP
        for child in workers if number == signal.SIGHUP else children:
            if child.process.poll() is None:
                # one that has no handlers yet ends by SIGTERM without a word, by SIGINT with a traceback
                child.process.send_signal(signal.SIGHUP if number == signal.SIGHUP else signal.SIGTERM)

    for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(wanted, pass_on)
    log.info("listening on %s with %d worker%s", listen, config.workers, "s" * (config.workers > 1))
    for number in range(config.workers):
        workers.append(worker(number, listen))
        children.append(workers[-1])
    if listener:
        children.append(web_page(config, listen, listener))
    if ending:  # the signal came before all were there
        pass_on(signal.SIGTERM, None)
    while not ending:
        time.sleep(POLL_SECONDS)
        for child in children:
            code = child.process.poll()
            if code is None or ending:
                continue
            if code == BAD_INPUT:  # it has said why
                pass_on(signal.SIGTERM, None)
            elif child.again_at is None:
                child.died()
            elif time.monotonic() >= child.again_at:
                child.start()
                if ending:  # the signal came just before
                    child.process.terminate()
    codes = [child.process.wait() for child in children]
    reserved.close()
    return max(code if code == BAD_INPUT else int(code not in (0, -signal.SIGTERM)) for code in codes)


def listen_for_web(address: str, choice: str) -> socket.socket:
    """The socket of the web page: held here, so that a port in use is seen at once and a restart refuses nobody.
    ``choice``: how to choose another address."""
    host, port = host_and_port(address)
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror  # below 0: the name is unknown
        raise ServiceError(f"cannot listen on {address}: {reason}; choose another with {choice}") from None


def reserve(address: str) -> tuple[socket.socket, str]:
    """Hold a port that workers share: bound and never listening, so that no connection comes here."""
    host, port = host_and_port(address)
    require_free(host, port)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)  # without SO_REUSEPORT: port 0 becomes one that nobody else has
            port = probe.getsockname()[1]
        held = socket.socket(family, kind, protocol)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((place[0], port, *place[2:]))
    except OSError as error:
        raise ServiceError(f"cannot listen on {address}: {error.strerror}; choose another with --listen") from None
    return held, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
