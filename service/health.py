"""Whether a server serves, asked from outside."""

from __future__ import annotations

import http.client

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.config import host_and_port
from service.errors import ServiceError

TIMEOUT_SECONDS = 5.0


def check_server(address: str) -> None:
    """ServiceError unless the gRPC server's health is SERVING."""
    host_and_port(address)
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise ServiceError(f"no answer from {address}: {error.code().name}") from None
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise ServiceError(f"{address} answers {status}")


def check_gateway(address: str) -> None:
    """ServiceError unless /health of the gateway answers 200."""
    connection = http.client.HTTPConnection(*host_and_port(address), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise ServiceError(f"no answer from {address}: {error}") from None
    finally:
        connection.close()
    if status != 200:
        raise ServiceError(f"{address} answers {status}")
