from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from click.testing import CliRunner
from fake_translator import FakeTranslator
from google.rpc import code_pb2, error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from serving import NOT_SERVING, SERVING, Running, health_of, running, running_gateway, wait_until

from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc
from service.cli import main
from service.config import ServiceConfig
from service.errors import ServiceError
from service.server import Server, serve


class Slow(FakeTranslator):
    """Waits for ``go`` in each call that holds "slow"; ``entered`` is set once it does."""

    def __init__(self) -> None:
        super().__init__(before=self._before)
        self.entered, self.go = threading.Event(), threading.Event()

    def _before(self, texts: Sequence[str]) -> None:
        if "broken" in texts:
            raise ValueError("a secret text")
        if "slow" in texts:
            self.entered.set()
            self.go.wait(timeout=5)


@pytest.fixture
def translator() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.go.set()


@pytest.fixture
def server(translator: Slow) -> Iterator[Running]:
    with running(lambda: translator, queue_tokens=20, max_characters=20, max_message_bytes=1000) as server:
        yield server


@pytest.fixture
def stub(server: Running) -> Iterator[pb_grpc.TranslationServiceStub]:
    with grpc.insecure_channel(server.address) as channel:
        yield pb_grpc.TranslationServiceStub(channel)


def request(*contents: str, **fields: Any) -> pb.TranslateRequest:
    return pb.TranslateRequest(
        contents=contents, **({"source_language_code": "en", "target_language_code": "de"} | fields)
    )


def failure(call: Any, *args: Any, **kwargs: Any) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        call(*args, **kwargs)
    return raised.value


def tokens_waiting(server: Running) -> int:
    return server.server._scheduler.waiting_tokens


def test_translate(stub: pb_grpc.TranslationServiceStub) -> None:
    answer = stub.Translate(request("a", "", " b\n\0"))
    assert [translation.translated_text for translation in answer.translations] == ["A", "", " B\n\0"]
    assert answer.translations[0] == pb.Translation(translated_text="A", score=-0.25, model="fake")


def test_hypotheses(stub: pb_grpc.TranslationServiceStub) -> None:
    (translation,) = stub.Translate(request("a", num_hypotheses=2)).translations
    assert translation.hypotheses == [
        pb.Hypothesis(text="A", score=-0.25, tokens=["A"], token_scores=[-0.25]),
        pb.Hypothesis(text="A'", score=-0.5, tokens=["A"], token_scores=[-0.25]),
    ]


def test_list_models(stub: pb_grpc.TranslationServiceStub) -> None:
    (model,) = stub.ListModels(pb.ListModelsRequest()).models
    pairs = [(pair.source_language_code, pair.target_language_code) for pair in model.language_pairs]
    assert (model.name, pairs) == ("fake", [("de", "en"), ("en", "de")])


def test_violations_are_bad_request_details(stub: pb_grpc.TranslationServiceStub) -> None:
    error = failure(stub.Translate, request(target_language_code="xx"))
    status = rpc_status.from_call(error)
    detail = error_details_pb2.BadRequest()
    assert status is not None
    assert status.details[0].Unpack(detail)
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert {violation.field: violation.description for violation in detail.field_violations} == {
        "contents": "empty; give at least one text",
        "target_language_code": "'xx' is not one of de, en",
    }
    assert error.details() == "; ".join(f"{v.field}: {v.description}" for v in detail.field_violations)


def test_a_message_over_the_size_limit(stub: pb_grpc.TranslationServiceStub) -> None:
    error = failure(stub.Translate, request("a" * 1000))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_error_of_the_model_shows_no_text(
    stub: pb_grpc.TranslationServiceStub, caplog: pytest.LogCaptureFixture
) -> None:
    error = failure(stub.Translate, request("broken"))
    assert (error.code(), "secret" in error.details()) == (grpc.StatusCode.INTERNAL, False)
    assert "a request of 1 texts failed" in caplog.text
    assert stub.Translate(request("a")).translations[0].translated_text == "A"


def test_a_full_queue_refuses_at_once(server: Running, stub: pb_grpc.TranslationServiceStub, translator: Slow) -> None:
    slow = stub.Translate.future(request("slow"))
    assert translator.entered.wait(timeout=5)
    waiting = stub.Translate.future(request("x" * 19))
    wait_until(lambda: tokens_waiting(server) == 20)
    error = failure(stub.Translate, request("y"))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the limit of 20; try again later" in error.details()
    retry = error_details_pb2.RetryInfo()
    assert rpc_status.from_call(error).details[0].Unpack(retry)
    assert retry.retry_delay.ToTimedelta().total_seconds() >= 0.1
    translator.go.set()
    assert slow.result(timeout=5).translations[0].translated_text == "SLOW"
    assert waiting.result(timeout=5).translations[0].translated_text == "X" * 19


def test_what_nobody_waits_for_is_not_computed(
    server: Running, stub: pb_grpc.TranslationServiceStub, translator: Slow
) -> None:
    slow = stub.Translate.future(request("slow"))
    assert translator.entered.wait(timeout=5)
    cancelled = stub.Translate.future(request("cancelled"))
    wait_until(lambda: tokens_waiting(server) == 10)
    cancelled.cancel()
    assert failure(stub.Translate, request("late"), timeout=0.1).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    jobs = server.server._scheduler._jobs
    wait_until(lambda: sum(not job.future.done() for job in list(jobs)) == 1)
    translator.go.set()
    slow.result(timeout=5)
    assert stub.Translate(request("next")).translations[0].translated_text == "NEXT"
    assert translator.calls[1:] == [["slow"], ["next"]]


def test_calls_that_wait_share_a_batch(server: Running, stub: pb_grpc.TranslationServiceStub, translator: Slow) -> None:
    slow = stub.Translate.future(request("slow"))  # a call is cancelled when its future is no longer referenced
    assert translator.entered.wait(timeout=5)
    with ThreadPoolExecutor(6) as pool:
        answers = pool.map(lambda i: stub.Translate(request(f"a{i}")).translations[0].translated_text, range(6))
        wait_until(lambda: tokens_waiting(server) == 18)
        translator.go.set()
        assert list(answers) == [f"A{i}" for i in range(6)]
        assert slow.result(timeout=5)
    assert len(translator.calls) == 3  # the warm-up, the slow one, the six


def test_not_serving_while_loading() -> None:
    loaded = threading.Event()

    def load() -> FakeTranslator:
        loaded.wait(timeout=5)
        return FakeTranslator()

    with running(load, wait=False) as server, grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)
        assert [health_of(server.address, name) for name in ("", "translation.v1.TranslationService")] == [
            NOT_SERVING
        ] * 2
        for error in (failure(stub.Translate, request("a")), failure(stub.ListModels, pb.ListModelsRequest())):
            assert (error.code(), error.details()) == (
                grpc.StatusCode.UNAVAILABLE,
                "the model is still loading; try again in a moment",
            )
        loaded.set()
        server.loading.result(timeout=5)
        assert [health_of(server.address, name) for name in ("", "translation.v1.TranslationService")] == [SERVING] * 2
        assert stub.Translate(request("a")).translations[0].translated_text == "A"


def test_a_model_that_was_replaced_is_let_go(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a whole life of the server, whose frames may hold what they talk about."""
    (config := tmp_path / "config.json").write_text("{}")
    loaded: list[weakref.ref[FakeTranslator]] = []

    def load(path: Path | None) -> FakeTranslator:
        loaded.append(weakref.ref(translator := FakeTranslator()))
        return translator

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    async def life() -> None:
        serving = asyncio.create_task(serve([tmp_path], load, ServiceConfig(listen="127.0.0.1:0")))  # type: ignore[arg-type]
        await until(lambda: "serving fake" in caplog.text)
        config.write_text("{ }")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(loaded) == 2)
        await until(lambda: loaded[0]() is None)
        assert loaded[1]() is not None
        os.kill(os.getpid(), signal.SIGTERM)
        assert await serving

    caplog.set_level("INFO")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # serve sets it for its process
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    asyncio.run(life())


def test_drain(translator: Slow) -> None:
    """Calls in flight are answered, new ones refused, a health watch hears of it and does not hold up the end."""
    with (
        running(lambda: translator, drain=False) as server,
        grpc.insecure_channel(server.address) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        stub = pb_grpc.TranslationServiceStub(channel)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        slow = stub.Translate.future(request("slow"))
        assert translator.entered.wait(timeout=5)
        queued = stub.Translate.future(request("queued", "too"))
        wait_until(lambda: tokens_waiting(server) == len("queuedtoo") + 2)
        begin = time.monotonic()
        drain = pool.submit(server.drain, 60)
        assert next(watch).status == NOT_SERVING
        time.sleep(0.1)
        assert failure(stub.Translate, request("new"), timeout=1).code() == grpc.StatusCode.UNAVAILABLE
        translator.go.set()
        assert slow.result(timeout=5).translations[0].translated_text == "SLOW"
        assert queued.result(timeout=5).translations[1].translated_text == "TOO"
        assert drain.result(timeout=5) is True
        assert time.monotonic() - begin < 5
        assert isinstance(failure(list, watch), grpc.RpcError)


def test_drain_has_an_end(translator: Slow) -> None:
    with running(lambda: translator, drain=False) as server, grpc.insecure_channel(server.address) as channel:
        slow = pb_grpc.TranslationServiceStub(channel).Translate.future(request("slow"))
        assert translator.entered.wait(timeout=5)
        assert server.drain(0.1) is False
        assert slow.exception(timeout=5).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_a_port_in_use(server: Running) -> None:
    second = Server([None], lambda path: FakeTranslator(), ServiceConfig(listen=server.address))  # type: ignore[arg-type]
    with pytest.raises(ServiceError, match=f"cannot listen on {server.address}: Address already in use"):
        server.call(second.start())


def stream(stub: pb_grpc.TranslationServiceStub, *texts: str, **fields: Any) -> list[pb.TranslateStreamResponse]:
    messages = [pb.TranslateStreamRequest(settings=request(**fields))]
    messages += [pb.TranslateStreamRequest(contents=[text]) for text in texts]
    return list(stub.TranslateStream(iter(messages), timeout=10))


def test_a_stream_answers_each_text_with_its_index(stub: pb_grpc.TranslationServiceStub) -> None:
    texts = [f"a{i}" for i in range(50)] + ["", "x" * 21, "broken"]
    answers = {answer.index: answer for answer in stream(stub, *texts)}
    assert sorted(answers) == list(range(53))
    assert [answers[i].translation.translated_text for i in range(51)] == [text.upper() for text in texts[:51]]
    assert (answers[51].error.code, answers[52].error.code) == (code_pb2.INVALID_ARGUMENT, code_pb2.INTERNAL)
    assert "21 characters, the limit is 20" in answers[51].error.message


def test_a_stream_must_begin_with_settings(stub: pb_grpc.TranslationServiceStub) -> None:
    again = [pb.TranslateStreamRequest(settings=request())] * 2
    for messages in ([], [pb.TranslateStreamRequest(contents=["a"])], again):
        error = failure(lambda given=messages: list(stub.TranslateStream(iter(given))))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "settings" in error.details()


def test_a_slow_reader_stops_the_reading() -> None:
    """One that reads nothing: the server takes in what its window and the transport's buffers hold, and no more."""
    sent = 0

    def texts() -> Iterator[pb.TranslateStreamRequest]:
        nonlocal sent
        yield pb.TranslateStreamRequest(settings=request())
        for sent in range(1, 301):
            yield pb.TranslateStreamRequest(contents=[f"{sent} " + "x" * 4_000])

    options = [("grpc.http2.bdp_probe", 0)]  # else the client itself takes in megabytes unread
    with (
        running(FakeTranslator, stream_characters=8_000) as server,
        grpc.insecure_channel(server.address, options) as channel,
    ):
        call = pb_grpc.TranslationServiceStub(channel).TranslateStream(texts())
        wait_until(lambda: sent > 0)
        before = -1
        while sent != before:  # until nothing moves any more
            before = sent
            time.sleep(0.5)
        assert 0 < sent < 200
        assert sorted(answer.index for answer in call) == list(range(300))


def test_a_client_that_leaves_a_stream_frees_its_place(
    server: Running, stub: pb_grpc.TranslationServiceStub, translator: Slow
) -> None:
    call = stub.TranslateStream(iter([pb.TranslateStreamRequest(settings=request(), contents=["slow", "next"])]))
    assert translator.entered.wait(timeout=5)
    call.cancel()
    jobs = server.server._scheduler._jobs
    wait_until(lambda: all(job.future.done() for job in list(jobs)))
    translator.go.set()
    assert stub.Translate(request("after")).translations[0].translated_text == "AFTER"


def test_a_drained_stream_ends_with_what_was_read(translator: Slow) -> None:
    open_end = threading.Event()

    def texts() -> Iterator[pb.TranslateStreamRequest]:
        yield pb.TranslateStreamRequest(settings=request(), contents=["slow", "b"])
        open_end.wait(timeout=10)

    with running(lambda: translator, drain=False) as server, grpc.insecure_channel(server.address) as channel:
        call = pb_grpc.TranslationServiceStub(channel).TranslateStream(texts())
        assert translator.entered.wait(timeout=5)
        with ThreadPoolExecutor(1) as pool:
            drained = pool.submit(server.drain, 10)
            wait_until(server.server._servicer.draining.is_set)
            translator.go.set()
            assert [next(call).translation.translated_text for _ in range(2)] == ["SLOW", "B"]
            error = failure(next, call)
            open_end.set()
            assert (error.code(), "2 texts were answered" in error.details()) == (grpc.StatusCode.UNAVAILABLE, True)
            assert drained.result(timeout=10) is True


class Attentive(FakeTranslator):
    """Alignments take ``go`` to come; ``looked`` counts the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.looked, self.go = 0, threading.Event()

    def aligning(self, translations: Sequence[Any]) -> Iterator[list[Any] | None]:
        while not self.go.is_set():
            self.looked += 1
            time.sleep(0.01)
            yield None
        yield list(translations)


def test_alignments_have_a_limit_and_end_with_their_caller() -> None:
    translator = Attentive()
    aligned = request("x" * 9, num_hypotheses=1, include_alignment=True)
    with (
        running(lambda: translator, queue_tokens=20, drain=False) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = pb_grpc.TranslationServiceStub(channel)
        late = stub.Translate.future(aligned, timeout=5)
        wait_until(lambda: translator.looked > 0)
        two = [stub.Translate.future(aligned) for _ in range(2)]  # one of them finds room
        wait_until(lambda: any(call.done() for call in two))
        refused, waiting = sorted(two, key=lambda call: not call.done())
        assert refused.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "20 tokens are waiting for their attention weights and 10 more" in refused.details()
        assert stub.Translate(request("a")).translations[0].translated_text == "A"  # nobody else waits for it
        assert late.exception(timeout=20).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.drain(0.1) is False
        wait_until(waiting.done)
        seen = translator.looked
        time.sleep(0.1)
        assert translator.looked <= seen + 1  # of one step that had begun


def test_a_call_whose_deadline_passes_is_counted_as_one(
    server: Running, stub: pb_grpc.TranslationServiceStub, translator: Slow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert failure(stub.Translate, request("slow"), timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    metrics = server.server.metrics
    wait_until(lambda: metrics.refusals.labels("deadline")._value.get() == 1)
    assert metrics.calls.labels("Translate", "DEADLINE_EXCEEDED")._value.get() == 1
    wait_until(lambda: "Translate: DEADLINE_EXCEEDED after" in caplog.text)


def test_detection() -> None:
    with running(FakeTranslator) as server, grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)
        found = stub.DetectLanguage(pb.DetectLanguageRequest(content="Ich habe heute leider keine Zeit.")).languages[0]
        assert found.language_code == "de"
        assert found.confidence > 0.9
        assert list(stub.DetectLanguage(pb.DetectLanguageRequest(content="12:30")).languages) == []
        page = "<script>const the = there.where(this);</script><p>Ich habe <b>heute</b> keine Zeit.</p>"
        html = pb.DetectLanguageRequest(content=page, mime_type="text/html")
        assert stub.DetectLanguage(html).languages[0].language_code == "de"
        mixed = request(page, "<b>The weather is nice</b>", source_language_code="", mime_type="text/html")
        kept, translated = stub.Translate(mixed).translations
        assert (kept.translated_text, kept.warnings[0].code) == (page, pb.TranslationWarning.COPIED_SOURCE)
        assert translated.translated_text == "<b>THE WEATHER IS NICE</b>"
        assert failure(stub.DetectLanguage, pb.DetectLanguageRequest()).code() == grpc.StatusCode.INVALID_ARGUMENT
        # Without a source language, each text's is detected; what is in the target language already stays as it is
        answer = stub.Translate(request("The weather is nice", "Heute ist es schön", "12", source_language_code=""))
        translations = [(one.translated_text, one.detected_language_code) for one in answer.translations]
        assert translations == [("THE WEATHER IS NICE", "en"), ("Heute ist es schön", "de"), ("12", "")]
        assert answer.translations[1].warnings[0].code == pb.TranslationWarning.COPIED_SOURCE


def test_glossary(stub: pb_grpc.TranslationServiceStub) -> None:
    entries = [
        pb.GlossaryEntry(source_term="cat", target_term="KATER"),
        pb.GlossaryEntry(source_term="d", target_term="e"),
    ]
    config = pb.GlossaryConfig(entries=entries)
    (found,) = stub.Translate(request("a cat, concat", glossary_config=config)).translations
    assert (found.translated_text, list(found.warnings)) == ("A KATER, CONCAT", [])
    (found,) = stub.Translate(request("d cat", glossary_config=config)).translations
    assert [(one.code, one.detail) for one in found.warnings] == [(pb.TranslationWarning.GLOSSARY_TERM_NOT_PLACED, "d")]
    (answer,) = stream(stub, "cat", glossary_config=config)
    assert answer.translation.translated_text == "KATER"
    error = failure(stub.Translate, request("a", glossary_config=pb.GlossaryConfig(glossary="none")))
    assert error.code() == grpc.StatusCode.NOT_FOUND


def test_html() -> None:
    texts = ["<p>a <b>c</b></p>", "<i></i>", "", "x &lt; y<br>z"]
    with running(FakeTranslator) as server, grpc.insecure_channel(server.address) as channel:
        stub = pb_grpc.TranslationServiceStub(channel)
        answer = stub.Translate(request(*texts, mime_type="text/html", num_hypotheses=2))
        assert [one.translated_text for one in answer.translations] == [
            "<p>A <b>C</b></p>",
            *texts[1:3],
            "X &lt; Y<br>Z",
        ]
        assert not any(one.warnings for one in answer.translations)
        assert [one.text for one in answer.translations[3].hypotheses] == ["X &lt; Y<br>Z", "X &lt; Y'<br>Z'"]
        (answer,) = stream(stub, "<u>a</u>", mime_type="text/html")
        assert answer.translation.translated_text == "<u>A</u>"


def test_formality_and_warnings_arrive(stub: pb_grpc.TranslationServiceStub) -> None:
    (formal,) = stub.Translate(request("a", formality=pb.FORMALITY_FORMAL)).translations
    assert formal.translated_text == "SIE: A"
    (doubtful,) = stub.Translate(request("doubt")).translations
    assert doubtful.translated_text == "DOUBT'"  # the second of the wider search
    assert list(doubtful.warnings) == [pb.TranslationWarning(code=pb.TranslationWarning.REPETITION, detail="doubt")]


def test_a_connection_has_an_end_so_that_clients_see_new_replicas() -> None:
    with (
        running(FakeTranslator, max_connection_seconds=0.2) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        states: list[grpc.ChannelConnectivity] = []
        channel.subscribe(states.append)
        stub = pb_grpc.TranslationServiceStub(channel)
        stub.ListModels(pb.ListModelsRequest(), timeout=30)
        wait_until(lambda: grpc.ChannelConnectivity.READY in states and states[-1] == grpc.ChannelConnectivity.IDLE)
        assert stub.ListModels(pb.ListModelsRequest(), timeout=30).models  # a new one is made by itself


def test_nmt_health(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the health checks of containers run, whatever proxy their environment names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    def health(*args: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["health", *args])
        return result.exit_code, result.output

    loaded = threading.Event()
    with running(lambda: loaded.wait(30) and FakeTranslator(), wait=False) as server:
        assert health("--server", server.address) == (1, f"nmt: {server.address} answers NOT_SERVING\n")
        with running_gateway(server.address) as url:
            address = url.removeprefix("http://")
            assert health("--gateway", address) == (1, f"nmt: {address} answers 503\n")
            loaded.set()
            server.loading.result(timeout=30)
            assert health("--server", server.address) == health("--gateway", address) == (0, "serving\n")
    assert health("--server", server.address) == (1, f"nmt: no answer from {server.address}: UNAVAILABLE\n")
    assert health("--gateway", address) == (1, f"nmt: no answer from {address}: [Errno 111] Connection refused\n")


def test_the_warm_up_measures_the_speed() -> None:
    """Rows times steps a second; without it no deadline is ever refused."""
    with running(lambda: FakeTranslator(before=lambda texts: time.sleep(0.02))) as server:
        speed = server.server._scheduler._speed
        assert 64 * 5 / 0.02 / 10 < speed < 64 * 5 / 0.02 * 1.5
