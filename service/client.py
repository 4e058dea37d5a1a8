"""A small synchronous client of the service.

>>> with Client("localhost:50051") as client:
...     client.translate(["Good morning."], "en", "de")[0].translated_text
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message

from model.config import SearchConfig
from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.config import host_and_port
from service.errors import ServiceError
from service.validation import SAMPLING_ONLY

# What one request holds at most, far below the server's limits so that an answer comes within seconds.
REQUEST_TEXTS = 256
REQUEST_CHARACTERS = 20_000
MAX_ANSWER_BYTES = 256 << 20  # long n-best lists pass gRPC's default of 4 MiB
# The server's answer says that the request is at fault, not the server.
REFUSALS = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)


class Client:
    """One connection to a server at HOST:PORT. ``timeout``: seconds that one request may take."""

    def __init__(self, server: str, timeout: float = 300.0) -> None:
        host_and_port(server)
        self._server, self._timeout = server, timeout
        self._channel = grpc.insecure_channel(server, options=[("grpc.max_receive_message_length", MAX_ANSWER_BYTES)])
        self._stub = pb_grpc.TranslationServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def translate(
        self,
        texts: Sequence[str],
        source: str,
        target: str,
        search: SearchConfig | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> list[pb.Translation]:
        """Translate any number of texts, in as many requests as it takes; one translation each, in order.

        ``progress`` is called with the number of texts that each answer brings. Raises UserError where the server
        refuses the input, ServiceError where it is out of reach, too slow or at fault.
        """
        translations: list[pb.Translation] = []
        search = search or SearchConfig()
        for contents in requests_of(texts):
            request = pb.TranslateRequest(
                contents=contents,
                source_language_code=source,
                target_language_code=target,
                search=search_options(search),
                num_hypotheses=search.nbest,
            )
            translations += self._call(self._stub.Translate, request).translations
            if progress:
                progress(len(contents))
        return translations

    def models(self) -> list[pb.Model]:
        """The models of the server, the default one first."""
        return list(self._call(self._stub.ListModels, pb.ListModelsRequest()).models)

    def _call(self, method: grpc.UnaryUnaryMultiCallable, request: Message) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            code, details = error.code(), " ".join((error.details() or "").split())
        if code in REFUSALS:
            raise UserError(f"{self._server} refused the request: {details}")
        if code == grpc.StatusCode.UNAVAILABLE:
            raise ServiceError(f"no answer from {self._server}, is 'nmt serve' running there? {details}")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise ServiceError(f"{self._server} did not answer within {self._timeout:g} s")
        raise ServiceError(f"{self._server} failed: {code.name}: {details}")


def search_options(search: SearchConfig) -> pb.SearchOptions:
    values = dataclasses.asdict(search)
    del values["nbest"]  # it is TranslateRequest.num_hypotheses
    if not search.sampling:
        for name in SAMPLING_ONLY:
            del values[name]
    return pb.SearchOptions(**values)


def requests_of(texts: Sequence[str]) -> Iterator[list[str]]:
    """The texts in parts of at most REQUEST_TEXTS texts and REQUEST_CHARACTERS characters, or one longer text."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == REQUEST_TEXTS or characters + len(text) > REQUEST_CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part
