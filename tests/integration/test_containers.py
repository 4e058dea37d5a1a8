"""What docker-compose.yml and deploy/ say: valid to their own tools, and true of the processes that they start.

There is no Docker engine on the machines of this project: the commands of the containers run as processes, in the order
and with the health checks of docker-compose.yml, with the names of hosts replaced by loopback.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import compose_spec
import httpx2
import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from serving import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]
DEPLOY = ROOT / "deploy"
KUBERNETES = [path for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) if "prometheus-adapter" not in path.name]
OURS = ("service", "gateway")

shipped = pytest.mark.skipif(
    not list((ROOT / "model" / "pretrained").glob("*/config.json")), reason="no checkpoint in model/pretrained/ yet"
)


def test_compose_file() -> None:
    compose_spec.PyCompose.from_json(json.dumps(COMPOSE)).validate()  # YAML's << is resolved
    for name, service in SERVICES.items():
        assert service["healthcheck"]["test"], name
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), "nothing leaves the machine unasked"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        subprocess.run(["docker", "compose", "config", "--quiet"], cwd=ROOT, check=True)


def test_dockerfile() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    subprocess.run([hadolint, ROOT / "Dockerfile"], check=True)
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^USER [1-9]\d*", text, re.MULTILINE), "not root"
    sources = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    packages = {"model", "training", "service", "protos"}
    assert sources == packages | {"pyproject.toml", "constraints.txt", "README.md"}


@pytest.mark.parametrize("path", KUBERNETES, ids=lambda path: path.name)
def test_kubernetes_manifests(path: Path) -> None:
    for resource in yaml.safe_load_all(path.read_text()):
        if resource["kind"] == "Kustomization":
            assert all((path.parent / name).exists() for name in resource["resources"])
        else:
            kubernetes_validate.validate(resource, "1.33", strict=True)


def test_kubernetes_manifests_fit_together() -> None:
    resources = [
        one for path in KUBERNETES for one in yaml.safe_load_all(path.read_text()) if one["kind"] != "Kustomization"
    ]
    by_kind = {(one["kind"], one["metadata"]["name"]): one for one in resources}
    service, deployment = by_kind["Service", "nmt"], by_kind["Deployment", "nmt"]
    assert service["spec"]["clusterIP"] == "None", "gRPC clients balance over the addresses of the pods"
    gateway = by_kind["Deployment", "nmt-gateway"]["spec"]["template"]["spec"]["containers"][0]
    assert f"--server=nmt:{service['spec']['ports'][0]['port']}" in gateway["args"]
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    scaler = by_kind["HorizontalPodAutoscaler", "nmt"]["spec"]
    assert scaler["metrics"][0]["pods"]["metric"]["name"] == rule["name"]["as"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    for one in resources:
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            grace = pod["terminationGracePeriodSeconds"]
            assert grace > 5 + (30 if one is deployment else 10), "preStop and the drain"
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert by_kind["Service", one["metadata"]["name"]]["spec"]["selector"].items() <= labels.items()


def expressions() -> dict[str, str]:
    """Every PromQL expression that is delivered."""
    found = {}
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "nmt.json").read_text())
    for panel in board["panels"]:
        for number, target in enumerate(panel["targets"]):
            found[f"{panel['title']} {number}"] = target["expr"].replace("$__rate_interval", "1m")
    for rule in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]:
        found[rule["alert"]] = rule["expr"]
    (rule,) = yaml.safe_load((DEPLOY / "kubernetes" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace("<<.LabelMatchers>>", 'pod="a"')
    return found | {"adapter": query, "adapter series": rule["seriesQuery"]}


@pytest.mark.parametrize("name", expressions())
def test_expressions(name: str) -> None:
    promql_parser.parse(expressions()[name])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Composed:
    """Our containers as processes. The port of each, by (service, port in the container), is a free one here."""

    def __init__(self) -> None:
        self.ports: dict[tuple[str, str], int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        command = [self.here(name, word) for word in SERVICES[name]["command"]]
        self.processes[name] = subprocess.Popen([sys.executable, "-m", "service.cli", *command], cwd=ROOT)

    def healthy(self, name: str) -> bool:
        kind, program, *command = SERVICES[name]["healthcheck"]["test"]
        assert (kind, program) == ("CMD", "nmt")
        command = [self.here(name, word) for word in command]
        done = subprocess.run([sys.executable, "-m", "service.cli", *command], cwd=ROOT, capture_output=True)
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 0

    def here(self, name: str, word: str) -> str:
        """An address of the network of containers on this machine."""

        def replace(found: re.Match[str]) -> str:
            owner = found[1] if found[1] in SERVICES else name
            return f"127.0.0.1:{self.port(owner, found[2])}"

        return re.sub(r"\b(0\.0\.0\.0|localhost|[a-z]+):(\d+)\b", replace, word)

    def port(self, name: str, port: str) -> int:
        return self.ports.setdefault((name, port), free_port())


@pytest.fixture(scope="module")
def composed() -> Iterator[Composed]:
    composed = Composed()
    with contextlib.ExitStack() as stack:
        left = dict.fromkeys(OURS)
        while left:
            # as Compose: what it depends on is started and, where that is the condition, healthy
            name = next(n for n in left if not set(SERVICES[n].get("depends_on", {})) & set(left))
            del left[name]
            composed.start(name)
            stack.callback(composed.processes[name].kill)
            wants = [dict(SERVICES[n].get("depends_on", {})).get(name) for n in left]
            if {"condition": "service_healthy"} in wants or not left:
                deadline = time.monotonic() + 120
                while not composed.healthy(name):
                    assert composed.processes[name].poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
        yield composed


@shipped
@pytest.mark.slow
def test_the_containers_translate_together(composed: Composed) -> None:
    published = SERVICES["gateway"]["ports"][0].rpartition(":")[2]
    url = f"http://127.0.0.1:{composed.port('gateway', published)}"
    answer = httpx2.post(f"{url}/translate", json={"q": "Good morning.", "source": "en", "target": "de"}, timeout=60)
    assert answer.json()["translatedText"].casefold() == "guten morgen."
    refused = httpx2.post(f"{url}/translate", json={"q": "a", "source": "en", "target": "xx"}, timeout=60)
    assert refused.status_code == 400


@shipped
def test_every_metric_that_dashboard_alerts_and_autoscaling_use_is_there(composed: Composed) -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    names: set[str] = set()
    for job in jobs:
        (found,) = job["dns_sd_configs"]
        port = composed.port(found["names"][0], str(found["port"]))
        for family in text_string_to_metric_families(httpx2.get(f"http://127.0.0.1:{port}/metrics").text):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
            names |= {family.name + suffix for suffix in suffixes}
    used = {name for expression in expressions().values() for name in re.findall(r"\bnmt_\w+", expression)}
    assert used <= names
    # and all that the service measures is on the dashboard
    board = " ".join(re.findall(r"\bnmt_\w+", (DEPLOY / "grafana" / "dashboards" / "nmt.json").read_text()))
    families = {re.sub(r"_(total|bucket|sum|count|created)$", "", name) for name in names if name.startswith("nmt_")}
    assert {family for family in families if family not in board} == set()


@shipped
def test_they_stop_within_their_grace_period(composed: Composed) -> None:
    for name in reversed(OURS):
        composed.processes[name].terminate()
        grace = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert composed.processes[name].wait(timeout=grace) == 0
        assert not composed.healthy(name)
