"""The Explain call: what it asks for, and the attention weights on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.rpc import code_pb2

from protos.translation.v1 import translation_pb2 as pb
from service.config import ServiceConfig
from service.contents import Content
from service.jobs import How
from service.validation import RefusedError, characters_of, check_request

if TYPE_CHECKING:
    from model.explain import Explanation
    from model.translator import Document, Translator

KINDS = {"encoder": pb.AttentionMap.ENCODER, "decoder": pb.AttentionMap.DECODER, "cross": pb.AttentionMap.CROSS}


def check_explain(request: pb.ExplainRequest, models: Mapping[str, Translator], config: ServiceConfig) -> How:
    """How the text wants to be translated. Raises RefusedError with everything that is wrong with the request."""
    as_translation = pb.TranslateRequest(
        contents=[request.content],
        source_language_code=request.source_language_code,
        target_language_code=request.target_language_code,
        model=request.model,
        search=request.search if request.HasField("search") else None,
    )
    violations: list[tuple[str, str]] = []
    if not request.content.strip():
        violations.append(("content", "empty; give a sentence"))
    if characters_of(request.translated_text) > config.max_characters:
        violations.append(("translated_text", f"longer than {config.max_characters} characters, the limit"))
    try:
        how = check_request(as_translation, models, config)
    except RefusedError as error:
        renamed = [("content" if field == "contents" else field, text) for field, text in error.violations]
        raise RefusedError(error.code, violations + renamed) from None
    if violations:
        raise RefusedError(code_pb2.INVALID_ARGUMENT, violations)
    return how


def check_document(content: Content, how: How) -> Document:
    """The text made ready: one sentence, and not in the target language already."""
    if content.in_target:
        raise RefusedError(
            code_pb2.INVALID_ARGUMENT, [("content", f"it is in the target language '{how.target}' already")]
        )
    (document,) = content.documents
    if len(document.sources) != 1:
        count = len(document.sources)
        raise RefusedError(code_pb2.INVALID_ARGUMENT, [("content", f"it has {count} sentences; explain one at a time")])
    return document


def explain_response(translation: pb.Translation, explanation: Explanation) -> pb.ExplainResponse:
    return pb.ExplainResponse(
        translation=translation,
        source_tokens=explanation.source_tokens,
        target_tokens=explanation.target_tokens,
        maps=[
            pb.AttentionMap(kind=KINDS[kind], layer=layer, head=head, weights=weights.flatten().tolist())
            for kind, layers in explanation.maps.items()
            for layer, heads in enumerate(layers)
            for head, weights in enumerate(heads)
        ],
    )
