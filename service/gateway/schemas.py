"""What goes in and out over HTTP: LibreTranslate's names, and optional ones of our own."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from model.config import SearchConfig
from protos.translation.v1 import translation_pb2 as pb

ITEM = "one for each text if q is a list"
FORMALITIES = {
    "default": pb.FORMALITY_UNSPECIFIED,
    "formal": pb.FORMALITY_FORMAL,
    "informal": pb.FORMALITY_INFORMAL,
}
MIME_TYPES = {"text": "text/plain", "html": "text/html"}


class Keyed(BaseModel):
    """What all requests have. Fields that are not known are left alone, as LibreTranslate does."""

    api_key: str = Field("", description="Where the server wants one. Also read from 'Authorization: Bearer KEY'.")


class GlossaryEntry(BaseModel):
    source: str
    target: str


class TranslateBody(Keyed):
    q: str | list[str] = Field(description="A text, or several.", examples=["Where is the station?"])
    source: str = Field(description='Language of q, or "auto".', examples=["auto"])
    target: str = Field(description="Language of the translation.", examples=["de"])
    format: Literal["text", "html"] = "text"
    alternatives: int = Field(0, ge=0, le=63, description="How many other translations to give.")
    formality: Literal["default", "formal", "informal"] = Field("default", description="Extension: form of address.")
    glossary: list[GlossaryEntry] = Field([], description="Extension: terms whose translation is given.")
    alignment: bool = Field(False, description="Extension: which part of q each part of the answer translates.")

    def message(self) -> pb.TranslateRequest:
        hypotheses = self.alternatives + 1 if self.alternatives or self.alignment else 0
        request = pb.TranslateRequest(
            contents=self.texts,
            mime_type=MIME_TYPES[self.format],
            source_language_code=language(self.source),
            target_language_code=self.target,
            num_hypotheses=hypotheses,
            include_alignment=self.alignment,
            formality=FORMALITIES[self.formality],
        )
        if hypotheses > SearchConfig.beam_size:
            request.search.beam_size = hypotheses
        for entry in self.glossary:
            request.glossary_config.entries.add(source_term=entry.source, target_term=entry.target)
        return request

    @property
    def texts(self) -> list[str]:
        return [self.q] if isinstance(self.q, str) else self.q


class Detected(BaseModel):
    confidence: float = Field(description="Per cent.")
    language: str


class Warned(BaseModel):
    code: str = Field(description="Of translation.v1.TranslationWarning, for example REPETITION.")
    detail: str


Link = tuple[int, int, int, int, float]


class TranslateAnswer(BaseModel):
    translatedText: str | list[str] = Field(description=f"{ITEM}, as all below.")
    detectedLanguage: Detected | list[Detected] | None = Field(None, description='If source was "auto".')
    alternatives: list[str] | list[list[str]] | None = Field(None, description="If they were asked for.")
    score: float | list[float] = Field(description="Extension: as Translation.score of the gRPC contract.")
    confidence: float | list[float] = Field(description="Extension: 0 to 1, the mean probability of a piece.")
    warnings: list[Warned] | list[list[Warned]] = Field(description="Extension: what to know before trusting it.")
    alignment: list[Link] | list[list[Link]] | None = Field(
        None, description="Extension: [source start, source end, target start, target end, weight], in characters."
    )


class DetectBody(Keyed):
    q: str = Field(examples=["Wo ist der Bahnhof?"])


class ExplainBody(Keyed):
    q: str = Field(description="One sentence.", examples=["Where is the station?"])
    source: str = Field(examples=["en"])
    target: str = Field(examples=["de"])
    translatedText: str = Field("", description="Explain this translation instead of the model's own.")

    def message(self) -> pb.ExplainRequest:
        return pb.ExplainRequest(
            content=self.q,
            source_language_code=language(self.source),
            target_language_code=self.target,
            translated_text=self.translatedText,
        )


class AttentionMap(BaseModel):
    kind: str = Field(description="ENCODER, DECODER or CROSS.")
    layer: int
    head: int
    weights: list[float] = Field(description="Row by row, one row for each attending piece.")


class ExplainAnswer(BaseModel):
    translatedText: str
    source_tokens: list[str]
    target_tokens: list[str]
    maps: list[AttentionMap]

    @classmethod
    def of(cls, answer: pb.ExplainResponse) -> ExplainAnswer:
        maps = [
            AttentionMap(
                kind=pb.AttentionMap.Kind.Name(one.kind),
                layer=one.layer,
                head=one.head,
                weights=[round(weight, 6) for weight in one.weights],
            )
            for one in answer.maps
        ]
        return cls(
            translatedText=answer.translation.translated_text,
            source_tokens=list(answer.source_tokens),
            target_tokens=list(answer.target_tokens),
            maps=maps,
        )


class Language(BaseModel):
    code: str
    name: str
    targets: list[str]
    formality: bool = Field(description="Extension: whether formality has an effect in translations into it.")


class FileBody(Keyed):
    source: str
    target: str
    formality: Literal["default", "formal", "informal"] = Field("default", description="Extension.")
    columns: str = Field("", description="Extension: what to translate in CSV, TSV and JSONL, with commas.")


class FileAnswer(BaseModel):
    translatedFileUrl: str


class Health(BaseModel):
    status: Literal["ok"] = "ok"


class Error(BaseModel):
    error: str


def language(code: str) -> str:
    """As the gRPC contract writes it: empty for "auto"."""
    return "" if code == "auto" else code
