"""Generates the Python stubs of the contract beside it: ``python -m protos.generate``. They are committed, and a test
keeps them in step with the contract and with the pinned grpcio-tools."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACT = "protos/translation/v1/translation.proto"


def generate(out: Path = ROOT) -> None:
    """Write ``translation_pb2.py``, ``translation_pb2.pyi`` and ``translation_pb2_grpc.py`` under ``out``."""
    from grpc_tools import protoc  # a development dependency

    well_known = files("grpc_tools") / "_proto"
    options = [f"-I{ROOT}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main(["protoc", *options, CONTRACT]) != 0:
        raise SystemExit(f"protoc refused {CONTRACT}")


if __name__ == "__main__":
    generate()
