"""`nmt serve` as a process, with a stand-in for the model and with the shipped one."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import CliRunner
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from serving import FAKE_NMT, REAL_NMT, ROOT, SERVING, Process, health_of, process

from model.errors import UserError
from model.glossary import Glossary
from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.cli import main
from service.client import Client
from service.errors import ServiceError
from service.server import SERVICE

shipped = pytest.mark.skipif(
    not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
)


@pytest.fixture(scope="module", params=[FAKE_NMT, pytest.param(REAL_NMT, marks=shipped)], ids=["fake", "shipped"])
def server(request: pytest.FixtureRequest) -> Iterator[Process]:
    with process(request.param) as server:
        server.wait_for(r"serving \S+ \(de, en\) on ")
        yield server


def test_health(server: Process) -> None:
    assert [health_of(server.address, name) for name in ("", SERVICE)] == [SERVING, SERVING]


def test_reflection_alone_is_enough_for_a_call(server: Process) -> None:
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(database.get_services()) == {
            "translation.v1.TranslationService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        method = DescriptorPool(database).FindServiceByName(SERVICE).methods_by_name["Translate"]
        call = channel.unary_unary(
            f"/{SERVICE}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        request = GetMessageClass(method.input_type)(
            contents=["Good morning."], source_language_code="en", target_language_code="de"
        )
        assert call(request, timeout=30).translations[0].translated_text.casefold() in (
            "good morning.",
            "guten morgen.",
        )


def test_translate(server: Process) -> None:
    with Client(server.address) as client:
        texts = ["Good morning.", "", "  \n\n How are you?\n"]
        translations = client.translate(texts, "en", "de")
        one_by_one = [client.translate([text], "en", "de")[0] for text in texts]
    assert [one.translated_text for one in translations] == [one.translated_text for one in one_by_one]
    assert translations[1].translated_text == ""
    assert translations[2].translated_text.startswith("  \n\n ")
    assert translations[2].translated_text.endswith("?\n")
    assert translations[0].hypotheses[0].text == translations[0].translated_text
    assert translations[0].score < 0


def test_many_callers_get_their_own_answers(server: Process) -> None:
    texts = ["Good morning.", "I have no time today.", "Where is the station?", "Thank you.", "He is here.", ""] * 4
    with grpc.insecure_channel(server.address) as channel:
        translate = pb_grpc.TranslationServiceStub(channel).Translate
        requests = [
            pb.TranslateRequest(contents=[text], source_language_code="en", target_language_code="de") for text in texts
        ]
        alone = {text: translate(request) for text, request in zip(texts[:6], requests[:6], strict=True)}
        together = [translate.future(request) for request in requests]
        for text, answer in zip(texts, together, strict=True):
            found, expected = answer.result(timeout=60).translations[0], alone[text].translations[0]
            assert found.translated_text == expected.translated_text
            assert found.score == pytest.approx(expected.score, abs=1e-4)


def test_a_glossary_of_the_caller(server: Process, tmp_path: Path) -> None:
    """Through the client and the command line; what comes out is the term, whatever the model makes of the rest."""
    (tmp_path / "terms.tsv").write_text("station\tZORKWILL\nnot in the text\tX\n")
    texts, glossary = (
        ["Where is the Station?", "Good morning."],
        Glossary.load(tmp_path / "terms.tsv", ignore_case=True),
    )
    with Client(server.address) as client:
        term, none = client.translate(texts, "en", "de", glossary=glossary)
        assert none.translated_text == client.translate(texts[1:], "en", "de")[0].translated_text
    assert "ZORKWILL" in term.translated_text and not term.warnings
    command = [*REAL_NMT, "translate", "--from", "en", "--to", "de", "--server", server.address]
    command += ["--glossary", str(tmp_path / "terms.tsv"), "--ignore-case"]
    done = subprocess.run(command, input="\n".join(texts), capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.stdout.splitlines() == [term.translated_text, none.translated_text]


def test_stored_glossaries_are_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "shop.tsv").write_text("cat\tKATER\n")
    (tmp_path / "word.tsv").write_text("cat\tMIEZE\n")
    places = ["--glossary", f"own={tmp_path / 'word.tsv'}", "--glossary", str(tmp_path)]
    with process(FAKE_NMT, *places) as server, Client(server.address) as client:
        server.wait_for("serving fake")

        def cat(name: str) -> str:
            return client.translate(["cat"], "en", "de", glossary=name)[0].translated_text

        assert [cat(name) for name in ("shop", "word", "own")] == ["KATER", "MIEZE", "MIEZE"]
        with pytest.raises(UserError, match="'none' is not stored; there is 'own', 'shop', 'word'"):
            cat("none")
        (tmp_path / "shop.tsv").write_text("cat\n")
        (tmp_path / "word.tsv").write_text("cat\tTIER\n")
        server.popen.send_signal(signal.SIGHUP)
        server.wait_for("glossary refused: .*shop.tsv, line 1: 1 columns.*the old one stays")
        server.wait_for("SIGHUP: looking(.|\n)*glossary word has 1 terms")
        assert [cat(name) for name in ("shop", "word", "own")] == ["KATER", "TIER", "TIER"]
        (tmp_path / "own.tsv").write_text("cat\tTIER\n")
        server.popen.send_signal(signal.SIGHUP)
        server.wait_for(f"the glossaries stay as they are: two glossaries are named own: {tmp_path / 'word.tsv'} and ")
        assert cat("own") == "TIER"


def test_the_benchmark_loads_a_server_of_its_own(checkpoint_directory: Path) -> None:
    command = [*REAL_NMT, "bench", "serve", "--checkpoint", str(checkpoint_directory), "--clients", "1,4", "--json"]
    done = subprocess.run([*command, "--calls", "20"], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [(row["clients"], row["calls"]) for row in found["rows"]] == [(1, 20), (4, 20)]
    for row in found["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    alone, together = (row["calls_per_second"] for row in found["rows"])
    assert found["speedup"] == round(together / alone, 2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(number: signal.Signals) -> None:
    with process(FAKE_NMT, environment={"FAKE_SLEEP": "0.7"}) as server, Client(server.address) as client:
        server.wait_for("serving fake")
        with grpc.insecure_channel(server.address) as channel:
            request = pb.TranslateRequest(contents=["a"], source_language_code="en", target_language_code="de")
            answer = pb_grpc.TranslationServiceStub(channel).Translate.future(request)
            server.wait_for("fake: translating")
            server.popen.send_signal(number)
            server.wait_for(f"{number.name}: no new calls, 30 s for those in flight")
            with pytest.raises(ServiceError, match="no answer from"):
                for _ in range(100):  # the line is written a moment before the port closes
                    client.translate(["b"], "en", "de")
            assert answer.result(timeout=5).translations[0].translated_text == "A"
        assert server.popen.wait(timeout=10) == 0
        assert "Traceback" not in server.log


def test_the_drain_has_a_limit() -> None:
    with process(FAKE_NMT, "--set", "drain_seconds=0.1", environment={"FAKE_SLEEP": "30"}) as server:
        server.wait_for("serving fake")
        with grpc.insecure_channel(server.address) as channel:
            request = pb.TranslateRequest(contents=["a"], source_language_code="en", target_language_code="de")
            answer = pb_grpc.TranslationServiceStub(channel).Translate.future(request)
            server.wait_for("fake: translating")
            server.popen.terminate()
            assert server.popen.wait(timeout=10) == 1
            assert answer.exception(timeout=5).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        server.wait_for("calls were cancelled after 0.1 s")
        assert "Traceback" not in server.log


def test_a_second_signal_ends_the_drain() -> None:
    with process(FAKE_NMT, environment={"FAKE_SLEEP": "30"}) as server:
        server.wait_for("serving fake")
        with grpc.insecure_channel(server.address) as channel:
            request = pb.TranslateRequest(contents=["a"], source_language_code="en", target_language_code="de")
            answer = pb_grpc.TranslationServiceStub(channel).Translate.future(request)
            server.wait_for("fake: translating")
            server.popen.terminate()
            server.wait_for("SIGTERM: no new calls")
            server.popen.terminate()
            assert server.popen.wait(timeout=10) == 1
            assert answer.exception(timeout=5)
        assert "SIGTERM again: leaving at once" in server.log


def test_a_signal_while_loading() -> None:
    with process(FAKE_NMT, environment={"FAKE_LOADING": "30"}) as server:
        server.popen.terminate()
        assert server.popen.wait(timeout=10) == 0
        assert "Traceback" not in server.log


def one_line(args: list[str]) -> tuple[int, str]:
    """Exit code and the last of what a server that cannot start says."""
    done = subprocess.run(args, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()[-1]


def test_a_port_in_use(server: Process) -> None:
    code, message = one_line([*FAKE_NMT, "serve", "--listen", server.address])
    assert code == 1
    assert message.startswith(f"nmt: cannot listen on {server.address}: Address already in use")


def test_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    """In this process, which has torch at hand: importing it takes seconds."""
    (tmp_path / "config.json").write_text("{")
    arguments = ["--listen", "127.0.0.1:0", "--web", "off", "--checkpoint", str(tmp_path)]
    result = CliRunner().invoke(main, ["serve", *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith(f"nmt: checkpoint {tmp_path}")


def test_a_glossary_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("cat\n")
    code, message = one_line([*FAKE_NMT, "serve", "--glossary", str(tmp_path / "terms.tsv")])
    assert code == 2
    assert message.endswith("terms.tsv, line 1: 1 columns, not 2 (tab between)")


def test_a_setting_that_is_none() -> None:
    code, message = one_line([*FAKE_NMT, "serve", "--set", "max_content=3"])
    assert (code, message) == (2, "nmt: service settings: unknown key 'max_content'; did you mean 'max_contents'?")
