"""The gRPC contract as a Markdown page, from its descriptors and the comments in it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent.parent
CONTRACT = "protos/translation/v1/translation.proto"
# Numbers of fields in descriptor.proto: the paths by which comments are found
MESSAGE, ENUM, SERVICE, SYNTAX, FIELD, NESTED, NESTED_ENUM, VALUE, METHOD = 4, 5, 6, 12, 2, 3, 4, 2, 2


class Contract:
    def __init__(self, path: str = CONTRACT) -> None:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "descriptors"
            options = [f"-I{ROOT}", f"--descriptor_set_out={out}", "--include_source_info"]
            if protoc.main(["protoc", *options, path]) != 0:
                raise SystemExit(f"protoc refused {path}")
            (self.file,) = FileDescriptorSet.FromString(out.read_bytes()).file
        self._places = {tuple(place.path): place for place in self.file.source_code_info.location}

    def comment(self, *path: int) -> str:
        """What stands before an element, its line ends as they are."""
        place = self._places.get(path)
        return escaped(place.leading_comments) if place else ""

    def preamble(self) -> str:
        """What stands before everything."""
        place = self._places[(SYNTAX,)]
        whole = "\n\n".join([*place.leading_detached_comments, place.leading_comments])
        return escaped(whole)


def page() -> str:
    return "\n".join(lines(Contract()))


def lines(contract: Contract) -> Iterator[str]:
    file = contract.file
    yield "# gRPC contract\n"
    yield f"Package `{file.package}`, file `{CONTRACT}`.\n"
    yield contract.preamble() + "\n"
    for s, service in enumerate(file.service):
        yield f"## {service.name}\n"
        yield contract.comment(SERVICE, s) + "\n"
        for m, method in enumerate(service.method):
            request, answer = link(method.input_type), link(method.output_type)
            stream = "stream of "
            yield f"### {method.name}\n"
            yield f"{stream * method.client_streaming}{request} → {stream * method.server_streaming}{answer}\n"
            yield contract.comment(SERVICE, s, METHOD, m) + "\n"
    yield "## Messages\n"
    for i, message in enumerate(file.message_type):
        yield from message_lines(contract, message, (MESSAGE, i))
    yield "## Enumerations\n"
    for i, enum in enumerate(file.enum_type):
        yield from enum_lines(contract, enum, (ENUM, i))
    for i, message in enumerate(file.message_type):
        for j, enum in enumerate(message.enum_type):
            yield from enum_lines(contract, enum, (MESSAGE, i, NESTED_ENUM, j), f"{message.name}.")


def message_lines(contract: Contract, message: DescriptorProto, path: Sequence[int]) -> Iterator[str]:
    yield heading(message.name)
    yield contract.comment(*path) + "\n"
    rows = [
        (f"`{field.name}`", str(field.number), type_of(field), contract.comment(*path, FIELD, i))
        for i, field in enumerate(message.field)
    ]
    if rows:
        yield from table(("field", "number", "type", "meaning"), rows)


def enum_lines(contract: Contract, enum: EnumDescriptorProto, path: Sequence[int], outer: str = "") -> Iterator[str]:
    yield heading(outer + enum.name)
    yield contract.comment(*path) + "\n"
    rows = [
        (f"`{value.name}`", str(value.number), contract.comment(*path, VALUE, i)) for i, value in enumerate(enum.value)
    ]
    yield from table(("value", "number", "meaning"), rows)


def heading(name: str) -> str:
    return f"### {name} {{ #{anchor(name)} }}\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(' '.join(cell.split()) for cell in row)} |"
    yield ""


def type_of(field: FieldDescriptorProto) -> str:
    name = link(field.type_name) if field.type_name else FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    if field.proto3_optional:
        return f"optional {name}"
    return f"{name} (one of)" if field.HasField("oneof_index") else name


def link(type_name: str) -> str:
    name = type_name.split(".v1.")[-1]
    return f"[{name}](#{anchor(name)})"


def anchor(name: str) -> str:
    return "message-" + name.lower().replace(".", "-")


def escaped(comment: str) -> str:
    """Plain text of a comment as Markdown, without the space behind //."""
    text = "\n".join(line.removeprefix(" ") for line in comment.strip("\n").split("\n"))
    for character in "\\`*<|":
        text = text.replace(character, "\\" + character if character != "<" else "&lt;")
    return text.strip()
