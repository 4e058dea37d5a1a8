from __future__ import annotations

import pytest

from model.errors import UserError
from service.config import ServiceConfig, host_and_port


@pytest.mark.parametrize(
    ("address", "expected"),
    [("localhost:50051", ("localhost", 50051)), ("[::1]:0", ("::1", 0)), ("0.0.0.0:65535", ("0.0.0.0", 65535))],
)
def test_host_and_port(address: str, expected: tuple[str, int]) -> None:
    assert host_and_port(address) == expected


@pytest.mark.parametrize(
    "address", ["", "localhost", ":1", "localhost:", "localhost:x", "localhost:65536", "::1:5", "h:²"]
)
def test_not_an_address(address: str) -> None:
    with pytest.raises(UserError, match="HOST:PORT"):
        host_and_port(address)


def test_settings() -> None:
    config = ServiceConfig.from_settings(["max_contents=7", "drain_seconds=0.5", "max_contents=8"])
    assert (config.max_contents, config.drain_seconds) == (8, 0.5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("max_content=7", "unknown key 'max_content'; did you mean 'max_contents'"),
        ("max_contents", "not of the form KEY=VALUE"),
        ("max_contents=many", "max_contents = 'many' is not a number"),
        ("max_contents=0", "max_contents = 0 must be at least 1"),
        ("drain_seconds=nan", "drain_seconds"),
        ("queue_tokens=0", "queue_tokens = 0 must be at least 1"),
        ("pool_rows=63", "pool_rows = 63 must be at least 64"),
        ("web=8080", "'8080' is not of the form HOST:PORT"),
        ("max_connection_seconds=-1", "max_connection_seconds = -1.0 must not be negative"),
        ("tls_key=x", "tls_certificate and tls_key go together"),
        ("tls_client_ca=x", "tls_client_ca needs tls_certificate"),
        ("compression=zip", "'zip' is not one of none, gzip, deflate"),
        ("metrics_listen=9464", "HOST:PORT"),
        ("listen=here", "HOST:PORT"),
    ],
)
def test_bad_settings(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ServiceConfig.from_settings([setting])


def test_there_is_a_web_page_unless_there_is_tls() -> None:
    tls = {"tls_certificate": "a", "tls_key": "b"}
    assert ServiceConfig().web_listen == "localhost:8080"
    assert ServiceConfig(web="[::1]:0").web_listen == "[::1]:0"
    assert ServiceConfig(web="off").web_listen == ServiceConfig(**tls).web_listen == ""
    with pytest.raises(UserError, match="run 'nmt gateway' instead"):
        ServiceConfig(web="localhost:80", **tls)
