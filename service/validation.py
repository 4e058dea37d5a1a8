"""From a TranslateRequest to what the model needs, or every reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.rpc import code_pb2

from model.config import SearchConfig
from model.errors import UserError
from protos.translation.v1 import translation_pb2 as pb
from service.config import ServiceConfig
from service.scheduler import How, characters_of

SAMPLING_ONLY = ("temperature", "top_k", "seed")


class RefusedError(Exception):
    """A request that breaks the contract: a google.rpc.Code and (field, description) for each broken rule."""

    def __init__(self, code: int, violations: Sequence[tuple[str, str]]) -> None:
        self.code = code
        self.violations = violations
        super().__init__("; ".join(f"{field}: {description}" for field, description in violations))


def search_config(given: Mapping[str, Any]) -> SearchConfig:
    """SearchConfig of the settings that the caller gave; one that would be without effect is a UserError."""
    if given.get("sampling"):
        return SearchConfig(**{"beam_size": 1, **given})
    for name in SAMPLING_ONLY:
        if name in given:
            raise UserError(f"{name} has an effect only with sampling")
    return SearchConfig(**given)


def check_request(request: pb.TranslateRequest, languages: Sequence[str], model: str, config: ServiceConfig) -> How:
    """Languages and search settings of the request. Raises RefusedError with everything that is wrong with it."""
    if missing := not_implemented(request):
        raise RefusedError(code_pb2.UNIMPLEMENTED, missing)
    violations = wrong_contents(request, config) + wrong_languages(request, languages)
    if request.mime_type not in ("", "text/plain"):
        violations.append(("mime_type", f"'{request.mime_type}' is not one of text/plain, text/html"))
    if request.formality not in pb.Formality.values():
        violations.append(("formality", f"{request.formality} is not a Formality"))
    search = SearchConfig()
    given = {field.name: value for field, value in request.search.ListFields()}
    if request.num_hypotheses:
        given["nbest"] = request.num_hypotheses
    try:
        search = search_config(given)
    except UserError as error:
        # the message begins with the name of the setting
        name, message = str(error).split(maxsplit=1)[0], str(error).replace("nbest", "num_hypotheses")
        violations.append(("num_hypotheses" if name == "nbest" else f"search.{name}", message))
    if violations:
        raise RefusedError(code_pb2.INVALID_ARGUMENT, violations)
    if request.model not in ("", model):
        raise RefusedError(code_pb2.NOT_FOUND, [("model", f"'{request.model}' is not loaded; there is '{model}'")])
    return How(request.source_language_code, request.target_language_code, search)


def not_implemented(request: pb.TranslateRequest) -> list[tuple[str, str]]:
    """What the contract has and this server has not yet."""
    later = {
        "mime_type": request.mime_type == "text/html",
        "include_alignment": request.include_alignment,
        "glossary_config": request.HasField("glossary_config"),
        "formality": request.formality in (pb.FORMALITY_FORMAL, pb.FORMALITY_INFORMAL),
    }
    return [(field, "not implemented yet; leave it unset") for field, is_set in later.items() if is_set]


def wrong_contents(request: pb.TranslateRequest, config: ServiceConfig) -> list[tuple[str, str]]:
    texts, characters = len(request.contents), sum(map(characters_of, request.contents))
    if not texts:
        return [("contents", "empty; give at least one text")]
    violations = []
    if texts > config.max_contents:
        violations.append(("contents", f"{texts} texts, the limit is {config.max_contents}; send several requests"))
    if characters > config.max_characters:
        advice = "send several requests" if texts > 1 else "split the text between two sentences"
        violations.append(("contents", f"{characters} characters, the limit is {config.max_characters}; {advice}"))
    return violations


def wrong_languages(request: pb.TranslateRequest, languages: Sequence[str]) -> list[tuple[str, str]]:
    violations = []
    for field in ("source_language_code", "target_language_code"):
        code = getattr(request, field)
        if not code:
            detect = " (detection is not implemented yet)" if field == "source_language_code" else ""
            violations.append((field, f"empty{detect}; give one of {', '.join(languages)}"))
        elif code not in languages:
            violations.append((field, f"'{code}' is not one of {', '.join(languages)}"))
    if not violations and request.source_language_code == request.target_language_code:
        violations.append(("target_language_code", f"'{code}' is the source language, too"))
    return violations
