"""From a TranslateRequest to what the model needs, or every reason why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from google.rpc import code_pb2

from model.config import SearchConfig, check
from model.errors import UserError
from model.glossary import Glossary, check_search
from protos.translation.v1 import translation_pb2 as pb
from service.config import ServiceConfig
from service.glossaries import Glossaries
from service.jobs import How

if TYPE_CHECKING:
    from model.translator import Translator

FORMALITIES = {
    pb.FORMALITY_UNSPECIFIED: "default",
    pb.FORMALITY_FORMAL: "formal",
    pb.FORMALITY_INFORMAL: "informal",
}
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


def check_request(
    request: pb.TranslateRequest,
    models: Mapping[str, Translator],
    config: ServiceConfig,
    glossaries: Glossaries = Glossaries(),
) -> How:
    """How the request wants to be translated. Raises RefusedError with everything that is wrong with it."""
    return _check(request, models, config, glossaries, wrong_contents(request, config))


def check_settings(
    request: pb.TranslateStreamRequest,
    models: Mapping[str, Translator],
    config: ServiceConfig,
    glossaries: Glossaries,
) -> How:
    """How the stream that begins with this request wants to be translated."""
    if not request.HasField("settings"):
        raise RefusedError(code_pb2.INVALID_ARGUMENT, [("settings", "the first message of a stream must have them")])
    extra = [("settings.contents", "texts go into contents beside the settings")] if request.settings.contents else []
    return _check(request.settings, models, config, glossaries, extra)


def _check(
    request: pb.TranslateRequest,
    models: Mapping[str, Translator],
    config: ServiceConfig,
    glossaries: Glossaries,
    violations: list[tuple[str, str]],
) -> How:
    if request.model and request.model not in models:
        there_is = ", ".join(f"'{name}'" for name in models)
        raise RefusedError(code_pb2.NOT_FOUND, [("model", f"'{request.model}' is not loaded; there is {there_is}")])
    candidates = [models[request.model]] if request.model else list(models.values())
    known = sorted({code for model in candidates for code in model.languages})
    source, target = (code_of(code, known) for code in (request.source_language_code, request.target_language_code))
    translator = next((model for model in candidates if _knows(model, source, target)), candidates[0])
    languages = wrong_languages(request, source, target, known)
    if not languages and not _knows(translator, source, target):
        wanted = f"'{request.source_language_code}' to '{request.target_language_code}'"
        languages.append(("target_language_code", f"no loaded model translates {wanted}"))
    violations = violations + languages
    violations += wrong_mime_type(request.mime_type)
    formality = FORMALITIES.get(request.formality, "default")
    if request.formality not in FORMALITIES:
        violations.append(("formality", f"{request.formality} is not a Formality"))
    elif not languages:
        other = next(code for code in translator.languages if code != target)
        try:
            translator.check(other, target, formality)
        except UserError as error:
            violations.append(("formality", str(error)))
    if request.include_alignment and not request.num_hypotheses:
        violations.append(("include_alignment", "alignments are of hypotheses: set num_hypotheses to at least 1"))
    html = request.mime_type == "text/html"
    if request.include_alignment and html:
        violations.append(("include_alignment", "alignments are of plain text: leave it unset, or mime_type"))
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
    glossary = None
    if request.HasField("glossary_config"):
        try:
            glossary = glossary_of(request.glossary_config, config, glossaries)
            check_search(search)
        except UserError as error:
            violations.append(("glossary_config", str(error)))
    if violations:
        raise RefusedError(code_pb2.INVALID_ARGUMENT, violations)
    return How(translator, source, target, search, formality, glossary, html, request.include_alignment)


def glossary_of(given: pb.GlossaryConfig, config: ServiceConfig, glossaries: Glossaries) -> Glossary:
    """The stored glossary, that of the request, or the request's before the stored one. UserError for what is wrong
    with it, RefusedError for a name that is not stored."""
    if given.glossary and given.glossary not in glossaries.by_name:
        there_is = ", ".join(f"'{name}'" for name in glossaries.by_name) or "none"
        raise RefusedError(
            code_pb2.NOT_FOUND, [("glossary_config.glossary", f"'{given.glossary}' is not stored; there is {there_is}")]
        )
    count, limit = len(given.entries), config.max_glossary_entries
    check(count <= limit, f"{count} entries, the limit is {limit}; store a longer glossary on the server")
    check(bool(given.glossary or given.entries), "empty; name a stored glossary or give entries")
    stored = glossaries.named(given.glossary, given.ignore_case) if given.glossary else None
    if stored and not given.entries:
        return stored
    return Glossary.of(((one.source_term, one.target_term) for one in given.entries), given.ignore_case, stored)


def characters_of(text: str) -> int:
    """What a text counts for in every limit: its Unicode code points, at least one."""
    return max(1, len(text))


def code_of(code: str, known: Sequence[str]) -> str:
    """As the models write it: "EN" and "en-US", which programs for Google's service say, are "en" unless a model has
    that very code. One that no model is meant by stays as it is."""
    if code in known:
        return code
    by_tag = {one.lower(): one for one in known}
    tag = code.lower().replace("_", "-")
    return by_tag.get(tag) or by_tag.get(tag.partition("-")[0]) or code


def _knows(translator: Translator, source: str, target: str) -> bool:
    return {source or target, target} <= set(translator.languages)


def wrong_mime_type(mime_type: str) -> list[tuple[str, str]]:
    if mime_type in ("", "text/plain", "text/html"):
        return []
    return [("mime_type", f"'{mime_type}' is not one of text/plain, text/html")]


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


def wrong_languages(
    request: pb.TranslateRequest, source: str, target: str, languages: Sequence[str]
) -> list[tuple[str, str]]:
    """``source``, ``target``: what the codes of the request mean. The caller is told of its own."""
    violations: list[tuple[str, str]] = []
    for field, meant in (("source_language_code", source), ("target_language_code", target)):
        code = getattr(request, field)
        if not code and field == "target_language_code":
            violations.append((field, f"empty; give one of {', '.join(languages)}"))
        elif code and meant not in languages:
            violations.append((field, f"'{code}' is not one of {', '.join(languages)}"))
    if not violations and source == target:
        violations.append(("target_language_code", f"'{code}' is the source language, too"))
    return violations
