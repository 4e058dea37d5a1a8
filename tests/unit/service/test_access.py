"""Tokens, TLS and mutual TLS, against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_translator import FakeTranslator
from serving import SERVING, health_of, running

from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.access import read_tokens
from service.client import Client
from service.errors import ServiceError

TOKEN = "0123456789abcdef"


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text(f"# for the tests\n\nanother-token-of-some-length\n{TOKEN}\n")
    return str(path)


def test_only_who_has_a_token_may_call(tokens_file: str) -> None:
    """Every method but health, whatever its kind; a thousand guesses find nothing."""
    with running(FakeTranslator, tokens_file=tokens_file) as server:
        with Client(server.address, token=TOKEN) as client:
            assert client.translate(["a"], "en", "de")[0].translated_text == "A"
        assert health_of(server.address) == SERVING
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.TranslationServiceStub(channel)
            request = pb.ListModelsRequest()
            guesses = [TOKEN[:-1], TOKEN + "0", "", *(f"{number:016x}" for number in range(1000))]
            calls = [
                stub.ListModels.future(request, metadata=[("authorization", f"Bearer {guess}")]) for guess in guesses
            ]
            assert {call.exception(timeout=30).code() for call in calls} == {grpc.StatusCode.UNAUTHENTICATED}
            with pytest.raises(grpc.RpcError) as refused:
                list(stub.TranslateStream(iter([pb.TranslateStreamRequest(contents=["a"])])))
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert server.server.metrics.refusals.labels("token")._value.get() == len(guesses) + 1


@pytest.mark.parametrize(("content", "message"), [("# none\n", "holds no token"), ("short\n", "fewer than 16")])
def test_a_tokens_file_that_protects_nothing(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(UserError, match=message):
        read_tokens(str(tmp_path / "tokens"))


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual"])
def test_tls(certificates: Path, mutual: bool) -> None:
    names = ("ca.pem", "server.key", "server.pem", "client.key", "client.pem")
    here = {name: str(certificates / name) for name in names}
    settings: dict[str, Any] = {"tls_certificate": here["server.pem"], "tls_key": here["server.key"]}
    if mutual:
        settings["tls_client_ca"] = here["ca.pem"]
    own = {"certificate": here["client.pem"], "key": here["client.key"]} if mutual else {}
    with running(FakeTranslator, **settings) as server:
        with Client(server.address, tls=here["ca.pem"], **own) as client:
            assert client.translate(["a"], "en", "de")[0].translated_text == "A"
        wrong: list[dict[str, Any]] = [{}, {"tls": here["ca.pem"]}] if mutual else [{}]
        for how in wrong:
            with Client(server.address, timeout=2, **how) as client, pytest.raises(ServiceError):
                client.translate(["a"], "en", "de")


def test_a_certificate_that_is_missing() -> None:
    with pytest.raises(UserError, match="cannot read /none: No such file"):
        running(FakeTranslator, tls_certificate="/none", tls_key="/none").__enter__()
