"""Generates the Python stubs of the contracts beside them: ``python -m protos.generate``. They are committed, and a
test keeps them in step with the contracts and with the pinned grpcio-tools."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONTRACT = "protos/translation/v1/translation.proto"
GOOGLE = "protos/google/translation_v3.proto"  # messages only: it is registered under another name


def generate(out: Path = ROOT) -> None:
    """Write ``NAME_pb2.py`` and ``NAME_pb2.pyi`` of both and ``translation_pb2_grpc.py`` under ``out``."""
    from grpc_tools import protoc  # a development dependency

    well_known = files("grpc_tools") / "_proto"
    options = [f"-I{ROOT}", f"-I{well_known}", f"--python_out={out}", f"--pyi_out={out}"]
    for contract, more in ((CONTRACT, [f"--grpc_python_out={out}"]), (GOOGLE, [])):
        if protoc.main(["protoc", *options, *more, contract]) != 0:
            raise SystemExit(f"protoc refused {contract}")


if __name__ == "__main__":
    generate()
