"""Tokens, TLS and mutual TLS, against a real server."""

from __future__ import annotations

import shutil
import ssl
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from fake_translator import FakeTranslator
from serving import SERVING, health_of, running

from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.access import WRONG_TOKENS, client_of, read_tokens
from service.cli import main
from service.client import Client
from service.config import ServiceConfig
from service.errors import ServiceError

TOKEN = "0123456789abcdef"


@pytest.fixture
def tokens_file(tmp_path: Path) -> str:
    path = tmp_path / "tokens"
    path.write_text(f"# for the tests\n\nanother-token-of-some-length\n{TOKEN}\n")
    return str(path)


def test_only_who_has_a_token_may_call(tokens_file: str) -> None:
    """Every method but health, whatever its kind."""
    with running(FakeTranslator, tokens_file=tokens_file) as server:
        with Client(server.address, token=TOKEN) as client:
            assert client.translate(["a"], "en", "de")[0].translated_text == "A"
        assert health_of(server.address) == SERVING
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.TranslationServiceStub(channel)
            for guess in (TOKEN[:-1], TOKEN + "0", "", "ü" * 16):
                metadata = [("authorization", f"Bearer {guess}".encode("ascii", "replace").decode())]
                error = stub.ListModels.future(pb.ListModelsRequest(), metadata=metadata).exception(timeout=30)
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.RpcError) as refused:
                list(stub.TranslateStream(iter([pb.TranslateStreamRequest(contents=["a"])])))
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert server.server.metrics.refusals.labels("token")._value.get() == 5


def test_who_guesses_tokens_has_to_wait(tokens_file: str) -> None:
    """A thousand guesses find nothing, hear nothing of the right token after the first few, and do not shut out who
    came from the same address with the right one before."""
    with running(FakeTranslator, tokens_file=tokens_file) as server, grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)

        def call(token: str) -> grpc.StatusCode | None:
            future = stub.ListModels.future(pb.ListModelsRequest(), metadata=[("authorization", f"Bearer {token}")])
            error = future.exception(timeout=30)
            return error.code() if error else None

        assert call(TOKEN) is None
        answers = Counter(call(f"{number:016x}") for number in range(1000))
        wrong, barred = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED
        assert answers == {wrong: WRONG_TOKENS, barred: 1000 - WRONG_TOKENS}
        assert call("another-token-of-some-length") == barred  # right, but new from here
        assert call(TOKEN) is None
        assert server.server.metrics.refusals.labels("guesses")._value.get() == 1001 - WRONG_TOKENS


@pytest.mark.parametrize(
    ("content", "message"), [("# none\n", "holds no token"), ("short\n", "fewer than 16"), ("ä" * 16, "not ASCII")]
)
def test_a_tokens_file_that_protects_nothing(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(UserError, match=message):
        read_tokens(str(tmp_path / "tokens"))


def test_the_command_line_has_a_token_and_tls(certificates: Path, tokens_file: str, tmp_path: Path) -> None:
    files = {"tls_certificate": certificates / "server.pem", "tls_key": certificates / "server.key"}
    own = tmp_path / "token"
    own.write_text(f"{TOKEN}\n")

    def translate(*more: str) -> tuple[int, str]:
        how = ["translate", "--from", "en", "--to", "de", *more]
        found = CliRunner().invoke(main, how, input="a\n")
        return found.exit_code, found.output

    settings = {name: str(path) for name, path in files.items()}
    with running(FakeTranslator, tokens_file=tokens_file, **settings) as server:
        here = ["--server", server.address, "--tls", str(certificates / "ca.pem")]
        assert translate(*here, "--token-file", str(own)) == (0, "A\n")
        code, output = translate(*here)
        assert (code, "token" in output) == (2, True)
    assert translate("--token-file", str(own)) == (2, "nmt: --token-file and --tls go with --server\n")


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


def test_turns_are_shared_between_the_owners_of_tokens() -> None:
    class Context:
        def __init__(self, token: str) -> None:
            self.token = token

        def invocation_metadata(self) -> Any:
            return [("authorization", f"Bearer {self.token}")]

        def peer(self) -> str:
            return "ipv4:127.0.0.1:4711"

    with_tokens, without = ServiceConfig(tokens_file="x"), ServiceConfig()
    a, b = Context("a" * 16), Context("b" * 16)
    assert client_of(a, with_tokens) != client_of(b, with_tokens)
    assert client_of(a, without) == client_of(b, without)
    assert with_tokens.for_worker(2, "h:1").metrics_listen == ""
    assert ServiceConfig(metrics_listen="h:9000").for_worker(2, "h:1").metrics_listen == "h:9002"


def test_a_renewed_certificate_needs_no_restart(certificates: Path, tmp_path: Path) -> None:
    for name in ("server.pem", "server.key"):
        shutil.copy(certificates / name, tmp_path / name)
    settings = {"tls_certificate": str(tmp_path / "server.pem"), "tls_key": str(tmp_path / "server.key")}
    with running(FakeTranslator, **settings) as server:
        port = int(server.address.rpartition(":")[2])

        def served() -> str:
            return ssl.get_server_certificate(("localhost", port))

        first = served()
        for suffix in ("pem", "key"):
            shutil.copy(certificates / f"client.{suffix}", tmp_path / f"server.{suffix}")
        assert served() != first == (certificates / "server.pem").read_text()
