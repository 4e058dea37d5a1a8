"""OpenTelemetry traces, as a collector of OTLP gets them from a real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import FAKE_NMT, process

from protos.translation.v1 import translation_pb2 as pb
from protos.translation.v1 import translation_pb2_grpc as pb_grpc

pytest.importorskip("opentelemetry.instrumentation.grpc", reason="needs nmt[otel]")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(otlp_grpc.TraceServiceServicer):
    """Keeps the spans that arrive."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.names: set[str] = set()
        self.news = threading.Condition()

    def Export(self, request: Any, context: Any) -> Any:
        with self.news:
            for resource in request.resource_spans:
                self.names |= {
                    one.value.string_value for one in resource.resource.attributes if one.key == "service.name"
                }
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
            self.news.notify_all()
        return otlp.ExportTraceServiceResponse()


def test_calls_become_spans_of_the_callers_trace_without_any_text() -> None:
    collector = Collector()
    receiver = grpc.server(ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, receiver)
    port = receiver.add_insecure_port("127.0.0.1:0")
    receiver.start()
    with process(FAKE_NMT, "--set", f"otlp_endpoint=http://127.0.0.1:{port}") as server:
        server.wait_for("serving fake")
        with grpc.insecure_channel(server.address) as channel:
            stub = pb_grpc.TranslationServiceStub(channel)
            request = pb.TranslateRequest(contents=["a secret"], source_language_code="en", target_language_code="de")
            stub.Translate(request, metadata=[("traceparent", f"00-{TRACE}-{PARENT}-01")], timeout=30)
            health = health_pb2_grpc.HealthStub(channel)  # no spans of it, and it works
            assert next(health.Watch(health_pb2.HealthCheckRequest(), timeout=30)).status == SERVING
            entries = [pb.GlossaryEntry(source_term="secret", target_term=target) for target in ("a", "b")]
            request.glossary_config.entries.extend(entries)
            with pytest.raises(grpc.RpcError, match="secret"):  # the caller is told
                stub.Translate(request, timeout=30)
        with collector.news:  # they are sent in batches, every few seconds
            assert collector.news.wait_for(lambda: len(collector.spans) >= 2, timeout=60)
    receiver.stop(0)
    assert collector.names == {"nmt"}
    good, bad = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
    assert good.name == bad.name == "/translation.v1.TranslationService/Translate"
    assert (good.trace_id.hex(), good.parent_span_id.hex()) == (TRACE, PARENT)
    assert good.end_time_unix_nano > good.start_time_unix_nano
    attributes = [{one.key: one.value for one in span.attributes} for span in (good, bad)]
    assert attributes[0]["rpc.method"].string_value == "Translate"
    codes = [each["rpc.grpc.status_code"].int_value for each in attributes]
    assert codes == [grpc.StatusCode.OK.value[0], grpc.StatusCode.INVALID_ARGUMENT.value[0]]
    assert "secret" not in str(collector.spans) + server.log
