"""Clients of the service, for programs with and without asyncio.

>>> with Client("localhost:50051") as client:
...     client.translate(["Good morning."], "en", "de")[0].translated_text

Texts go out in small requests, a few at a time, and each is retried by itself, on the next server where there are
several. So any number of texts passes in constant memory, and no failure costs more than one request. One that is too
large for the server is sent again in smaller ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from model.config import SearchConfig
from model.errors import UserError, checked_texts
from model.glossary import Glossary, check_glossary, check_search
from model.progress import Progress, reporting
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.config import host_and_port
from service.errors import ServiceError
from service.validation import FORMALITIES, SAMPLING_ONLY, characters_of

# What one request holds at most, far below the usual limits of a server so that an answer comes within seconds.
REQUEST_TEXTS = 256
REQUEST_CHARACTERS = 20_000
REQUESTS_IN_FLIGHT = 4  # enough that the model never waits for the next request
MAX_ANSWER_BYTES = 256 << 20  # long n-best lists pass gRPC's default of 4 MiB
ATTEMPTS = 6  # where nobody answers
BACKOFF_SECONDS = (0.1, 5.0)  # doubled each time, with up to as much again at random; RetryInfo says otherwise
# The server's answer says that the request is at fault, not the server.
REFUSALS = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
)
OPTIONS = [
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.use_local_subchannel_pool", 1),  # else all clients of a process share a connection, and so a worker
]


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where and how to call. ``servers``: HOST:PORT of one server or, separated by commas, of replicas, which take
    turns. ``timeout``: seconds that one request may take, its retries included. ``token``: of the server's
    tokens_file. ``tls``: PEM file of the authority that signed the server's certificate, "" for those that the system
    trusts, None for no TLS; ``certificate`` and ``key`` are the client's own PEM files for mutual TLS."""

    servers: str
    timeout: float = 300.0
    token: str = ""
    tls: str | None = None
    certificate: str = ""
    key: str = ""

    def addresses(self) -> list[str]:
        addresses = [address.strip() for address in self.servers.split(",")]
        for address in addresses:
            host_and_port(address)
        return addresses

    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.token}")] if self.token else []

    def credentials(self) -> grpc.ChannelCredentials | None:
        if self.tls is None:
            return None
        try:
            files = [Path(path).read_bytes() if path else None for path in (self.tls, self.key, self.certificate)]
        except OSError as error:
            raise UserError(f"cannot read {error.filename}: {error.strerror}") from None
        return grpc.ssl_channel_credentials(*files)

    def channels(self, library: Any = grpc, more: Sequence[tuple[str, Any]] = ()) -> list[Any]:
        """A channel to each server; ``library``: grpc or grpc.aio, ``more``: options beside our own."""
        secure, options = self.credentials(), [*OPTIONS, *more]
        if secure:
            return [library.secure_channel(address, secure, options) for address in self.addresses()]
        return [library.insecure_channel(address, options) for address in self.addresses()]


def authority(choice: str | None) -> str | None:
    """``Connection.tls`` as a setting: a PEM file, "system" for those that the system trusts, nothing for no TLS."""
    return "" if choice == "system" else choice or None


class Attempts:
    """The attempts at one call: ``arguments`` of the next one, ``pause`` after one that failed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._until = time.monotonic() + connection.timeout
        self._failed = 0

    def arguments(self) -> dict[str, Any]:
        left = max(self._until - time.monotonic(), 0.001)
        return {"timeout": left, "metadata": self._connection.metadata()}

    def pause(self, error: Any) -> float:
        """Seconds to wait before the next one. UserError or ServiceError where there should be none."""
        self._failed += 1
        pause = pause_before_retry(error, self._failed, len(self._connection.addresses()))
        if pause is None or time.monotonic() + pause >= self._until:
            raise explained(error, self._connection) from None
        return pause


class TooLargeError(UserError):
    """The server takes no request that holds so much."""


@dataclasses.dataclass
class Limits:
    """What one request holds at most; a single text may be longer. Counted as the server does."""

    texts: int = REQUEST_TEXTS
    characters: int = REQUEST_CHARACTERS

    def lower(self, contents: Sequence[str], refusal: TooLargeError) -> None:
        """Half of what was refused is the limit from now on, so that later requests are not refused first."""
        if " texts, " in str(refusal):
            self.texts = min(self.texts, len(contents) // 2)
        else:
            self.characters = min(self.characters, sum(map(characters_of, contents)) // 2)


class Client:
    """Synchronous; may be used from several threads. Arguments as of ``Connection``."""

    characters_at_once = REQUESTS_IN_FLIGHT * REQUEST_CHARACTERS  # what keeps its requests in flight

    def __init__(self, servers: str, timeout: float = 300.0, **how: Any) -> None:
        self._connection = Connection(servers, timeout, **how)
        self._channels = self._connection.channels()
        self._stubs = itertools.cycle([pb_grpc.TranslationServiceStub(channel) for channel in self._channels])
        self._limits = Limits()
        self._threads = ThreadPoolExecutor(REQUESTS_IN_FLIGHT)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for channel in self._channels:
            channel.close()

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig | None = None,
        progress: Progress = None,
        formality: str = "default",
        glossary: Glossary | str | None = None,
        html: bool = False,
        alignments: bool = False,
    ) -> list[pb.Translation]:
        """Translate any number of texts; one translation each, in order. ``source`` "": detected; ``glossary``: one
        of yours, or the name of one that the server keeps; ``html``: only what a reader sees changes.

        ``progress`` is called with the number of texts that each answer brings; True shows a bar. Raises UserError
        for what is no list of texts or no Glossary, and where the server refuses the input (a text that is too long is
        named by its index), ServiceError where it is out of reach, too slow or at fault.
        """
        found: list[pb.Translation] = []
        with reporting(progress, len(texts), "texts") as report:
            for part in self._parts(texts, source, target, search, formality, glossary, html, alignments):
                found += part
                if report:
                    report(len(part))
        return found

    def stream(
        self,
        texts: Iterable[str],
        source: str,
        target: str,
        search: SearchConfig | None = None,
        formality: str = "default",
        glossary: Glossary | str | None = None,
        html: bool = False,
        alignments: bool = False,
    ) -> Iterator[pb.Translation]:
        """As ``translate``, for any number of texts in constant memory: each translation as soon as it and those
        before it are there; texts are taken as translations are."""
        for part in self._parts(texts, source, target, search, formality, glossary, html, alignments):
            yield from part

    def detect(self, text: str) -> list[tuple[str, float]]:
        """The likeliest languages of a text, best first, and their probabilities."""
        answer = self._call("DetectLanguage", message(pb.DetectLanguageRequest, content=text))
        return [(language.language_code, language.confidence) for language in answer.languages]

    def models(self) -> list[pb.Model]:
        """The models of the server, the default one first."""
        return list(self._call("ListModels", pb.ListModelsRequest()).models)

    def model(self, source: str, target: str) -> pb.Model:
        """The one that translates where a request names none. ServiceError where the servers have different ones."""
        pair = pb.LanguagePair(source_language_code=source, target_language_code=target)
        answers = [self.models() for _ in self._channels]  # they take turns
        found = [next((one for one in models if pair in one.language_pairs), models[0]) for models in answers]
        if len({(one.name, one.hash) for one in found}) > 1:
            raise ServiceError(f"{self._connection.servers} have different models: name servers that have the same")
        return found[0]

    def _parts(self, texts: Iterable[str], *how: Any) -> Iterator[Sequence[pb.Translation]]:
        requests = Requests(self._limits, *how)
        each = requests.of(texts)
        begin = list(itertools.islice(each, 2))
        if len(begin) == 1:  # nothing to send beside it: changing threads would only cost time
            yield from self._translated(requests, begin[0])
            return
        waiting: deque[tuple[Request, Any]] = deque()
        try:
            for request in itertools.chain(begin, each):
                waiting.append((request, self._threads.submit(self._call, "Translate", request.message)))
                if len(waiting) == REQUESTS_IN_FLIGHT:
                    yield from self._translated(requests, *waiting.popleft())
            while waiting:
                yield from self._translated(requests, *waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()

    def _translated(self, requests: Requests, request: Request, sent: Any = None) -> Iterator[Sequence[pb.Translation]]:
        """The answers to a request, which may have been ``sent``: several where it is too large for the server."""
        try:
            answer = sent.result() if sent else self._call("Translate", request.message)
        except TooLargeError as error:
            for smaller in requests.smaller(request, error):
                yield from self._translated(requests, smaller)
        else:
            yield answer.translations

    def _call(self, method: str, request: Message) -> Any:
        attempts = Attempts(self._connection)
        while True:
            try:
                return getattr(next(self._stubs), method)(request, **attempts.arguments())
            except grpc.RpcError as error:
                pause = attempts.pause(error)
            time.sleep(pause)


class AsyncClient:
    """As ``Client``, in an event loop."""

    def __init__(self, servers: str, timeout: float = 300.0, **how: Any) -> None:
        self._connection = Connection(servers, timeout, **how)
        self._channels = self._connection.channels(grpc.aio)
        self._stubs = itertools.cycle([pb_grpc.TranslationServiceStub(channel) for channel in self._channels])
        self._limits = Limits()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig | None = None,
        formality: str = "default",
        glossary: Glossary | str | None = None,
        html: bool = False,
        alignments: bool = False,
    ) -> list[pb.Translation]:
        return [one async for one in self.stream(texts, source, target, search, formality, glossary, html, alignments)]

    async def stream(
        self,
        texts: Iterable[str],
        source: str,
        target: str,
        search: SearchConfig | None = None,
        formality: str = "default",
        glossary: Glossary | str | None = None,
        html: bool = False,
        alignments: bool = False,
    ) -> AsyncIterator[pb.Translation]:
        requests = Requests(self._limits, source, target, search, formality, glossary, html, alignments)
        waiting: deque[tuple[Request, asyncio.Task[Any]]] = deque()
        try:
            for request in requests.of(texts):
                waiting.append((request, asyncio.create_task(self._call("Translate", request.message))))
                if len(waiting) == REQUESTS_IN_FLIGHT:
                    async for one in self._translated(requests, *waiting.popleft()):
                        yield one
            while waiting:
                async for one in self._translated(requests, *waiting.popleft()):
                    yield one
        finally:
            for _, task in waiting:
                task.cancel()

    async def detect(self, text: str) -> list[tuple[str, float]]:
        answer = await self._call("DetectLanguage", message(pb.DetectLanguageRequest, content=text))
        return [(language.language_code, language.confidence) for language in answer.languages]

    async def models(self) -> list[pb.Model]:
        return list((await self._call("ListModels", pb.ListModelsRequest())).models)

    async def _translated(
        self, requests: Requests, request: Request, sent: asyncio.Task[Any] | None = None
    ) -> AsyncIterator[pb.Translation]:
        try:
            answer = await (sent or self._call("Translate", request.message))
        except TooLargeError as error:
            for smaller in requests.smaller(request, error):
                async for one in self._translated(requests, smaller):
                    yield one
        else:
            for one in answer.translations:
                yield one

    async def _call(self, method: str, request: Message) -> Any:
        attempts = Attempts(self._connection)
        while True:
            try:
                return await getattr(next(self._stubs), method)(request, **attempts.arguments())
            except grpc.RpcError as error:
                pause = attempts.pause(error)
            await asyncio.sleep(pause)


def pause_before_retry(error: Any, attempt: int, servers: int = 1) -> float | None:
    """Seconds to wait before the next attempt; None where there should be none. ``servers`` take turns.

    Every method only reads, so a call that may have been lost on the way (UNAVAILABLE) can be made again. A server
    that says when, since it is full or still loading, is asked as often as the caller's time allows, after the others.
    """
    backoff = min(BACKOFF_SECONDS[0] * 2 ** (min(attempt, ATTEMPTS) - 1), BACKOFF_SECONDS[1]) * (1 + random.random())
    unavailable = error.code() == grpc.StatusCode.UNAVAILABLE
    if unavailable or error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        if (given := retry_info(error)) is not None:
            wait = given if attempt % servers == 0 else 0.0
            return wait + backoff - BACKOFF_SECONDS[0]  # not all at the same moment
        if unavailable and attempt < ATTEMPTS:
            return backoff
    return None


def retry_info(error: Any) -> float | None:
    """The seconds of google.rpc.RetryInfo in a status; None without."""
    info = detail(error, error_details_pb2.RetryInfo)
    return info.retry_delay.ToTimedelta().total_seconds() if info else None


def detail(error: Any, kind: type[Message]) -> Any:
    """The google.rpc detail of that kind in a status; None without."""
    metadata = dict(error.trailing_metadata() or ())
    found = kind()
    for packed in status_pb2.Status.FromString(metadata.get(rpc_status.GRPC_DETAILS_METADATA_KEY, b"")).details:
        if packed.Unpack(found):
            return found
    return None


def is_too_large(error: Any) -> bool:
    """Whether the same texts may pass in smaller requests."""
    if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
        return "larger than max" in (error.details() or "")  # gRPC's own refusal of a message
    bad = detail(error, error_details_pb2.BadRequest)
    return bad is not None and {one.field for one in bad.field_violations} == {"contents"}


def explained(error: Any, connection: Connection) -> UserError | ServiceError:
    """The error of a call in one line."""
    code, details = error.code(), " ".join((error.details() or "").split())
    servers = connection.servers
    if is_too_large(error):
        advice = "; split the text" if code == grpc.StatusCode.RESOURCE_EXHAUSTED else ""
        return TooLargeError(f"{servers} refused the request: {details}{advice}")
    if code in REFUSALS:
        return UserError(f"{servers} refused the request: {details}")
    if code == grpc.StatusCode.UNAVAILABLE:
        return ServiceError(f"no answer from {servers}, is 'nmt serve' running there? {details}")
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServiceError(f"{servers} did not answer within {connection.timeout:g} s: {details}")
    return ServiceError(f"{servers} failed: {code.name}: {details}")


class Request(NamedTuple):
    first: int  # index of its first text
    message: pb.TranslateRequest


class Requests:
    """Makes the requests for texts, each as large as ``limits`` allow by then."""

    def __init__(
        self,
        limits: Limits,
        source: str,
        target: str,
        search: SearchConfig | None,
        formality: str,
        glossary: Glossary | str | None,
        html: bool,
        alignments: bool,
    ) -> None:
        search = search or SearchConfig()
        if glossary:
            if not isinstance(glossary, str):
                check_glossary(glossary)
            check_search(search)  # the server sees that only of texts with terms
        by_name = {name: value for value, name in FORMALITIES.items()}
        if formality not in by_name:
            raise UserError(f"unknown formality '{formality}'; choose from {', '.join(by_name)}")
        self._limits, self._glossary = limits, glossary
        self._settings = {
            "mime_type": "text/html" if html else "text/plain",
            "source_language_code": source,
            "target_language_code": target,
            "search": search_options(search),
            "num_hypotheses": search.nbest,
            "formality": by_name[formality],
            "include_alignment": alignments,
        }

    def of(self, texts: Iterable[str], first: int = 0) -> Iterator[Request]:
        for contents in requests_of(texts, self._limits):
            terms = glossary_config(self._glossary, contents)
            fields = {**self._settings, "contents": contents, "glossary_config": terms}
            yield Request(first, message(pb.TranslateRequest, **fields))
            first += len(contents)

    def smaller(self, request: Request, refusal: TooLargeError) -> Iterator[Request]:
        """Requests for the texts of one that was refused; UserError where it holds a single one."""
        first, contents = request.first, request.message.contents
        if len(contents) == 1:
            raise UserError(f"texts[{first}]: {refusal}") from None
        self._limits.lower(contents, refusal)
        return self.of(contents, first)


def message(kind: type[Message], **fields: Any) -> Any:
    """UserError for what is no text."""
    try:
        return kind(**fields)
    except UnicodeEncodeError:
        raise UserError("a text holds half a surrogate pair, which is no character: it cannot be sent") from None


def glossary_config(glossary: Glossary | str | None, texts: Sequence[str]) -> pb.GlossaryConfig | None:
    """Of a whole glossary, only the terms that may be in the texts."""
    if isinstance(glossary, str):
        return pb.GlossaryConfig(glossary=glossary)
    terms = {term: None for text in texts for term in glossary.candidates(text)} if glossary else {}
    if not glossary or not terms:
        return None
    entries = [pb.GlossaryEntry(source_term=term.source, target_term=term.target) for term in terms]
    return pb.GlossaryConfig(entries=entries, ignore_case=glossary.ignore_case)


def search_options(search: SearchConfig) -> pb.SearchOptions:
    values = dataclasses.asdict(search)
    del values["nbest"]  # it is TranslateRequest.num_hypotheses
    if not search.sampling:
        for name in SAMPLING_ONLY:
            del values[name]
    return pb.SearchOptions(**values)


def requests_of(texts: Iterable[str], limits: Limits | None = None) -> Iterator[list[str]]:
    """The texts in parts of at most as many texts and characters as ``limits`` say by then, or one longer text.
    UserError for what is no text."""
    limits = limits or Limits()
    part: list[str] = []
    characters = 0
    for text in checked_texts(texts):
        if part and (len(part) >= limits.texts or characters + characters_of(text) > limits.characters):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += characters_of(text)
    if part:
        yield part
