from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Formality(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FORMALITY_UNSPECIFIED: _ClassVar[Formality]
    FORMALITY_FORMAL: _ClassVar[Formality]
    FORMALITY_INFORMAL: _ClassVar[Formality]
FORMALITY_UNSPECIFIED: Formality
FORMALITY_FORMAL: Formality
FORMALITY_INFORMAL: Formality

class TranslateRequest(_message.Message):
    __slots__ = ("contents", "mime_type", "source_language_code", "target_language_code", "model", "search", "num_hypotheses", "include_alignment", "glossary_config", "formality")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    NUM_HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    GLOSSARY_CONFIG_FIELD_NUMBER: _ClassVar[int]
    FORMALITY_FIELD_NUMBER: _ClassVar[int]
    contents: _containers.RepeatedScalarFieldContainer[str]
    mime_type: str
    source_language_code: str
    target_language_code: str
    model: str
    search: SearchOptions
    num_hypotheses: int
    include_alignment: bool
    glossary_config: GlossaryConfig
    formality: Formality
    def __init__(self, contents: _Optional[_Iterable[str]] = ..., mime_type: _Optional[str] = ..., source_language_code: _Optional[str] = ..., target_language_code: _Optional[str] = ..., model: _Optional[str] = ..., search: _Optional[_Union[SearchOptions, _Mapping]] = ..., num_hypotheses: _Optional[int] = ..., include_alignment: _Optional[bool] = ..., glossary_config: _Optional[_Union[GlossaryConfig, _Mapping]] = ..., formality: _Optional[_Union[Formality, str]] = ...) -> None: ...

class TranslateResponse(_message.Message):
    __slots__ = ("translations",)
    TRANSLATIONS_FIELD_NUMBER: _ClassVar[int]
    translations: _containers.RepeatedCompositeFieldContainer[Translation]
    def __init__(self, translations: _Optional[_Iterable[_Union[Translation, _Mapping]]] = ...) -> None: ...

class SearchOptions(_message.Message):
    __slots__ = ("beam_size", "length_penalty", "max_length_ratio", "max_length_offset", "sampling", "temperature", "top_k", "seed", "exact")
    BEAM_SIZE_FIELD_NUMBER: _ClassVar[int]
    LENGTH_PENALTY_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_RATIO_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_OFFSET_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    beam_size: int
    length_penalty: float
    max_length_ratio: float
    max_length_offset: int
    sampling: bool
    temperature: float
    top_k: int
    seed: int
    exact: bool
    def __init__(self, beam_size: _Optional[int] = ..., length_penalty: _Optional[float] = ..., max_length_ratio: _Optional[float] = ..., max_length_offset: _Optional[int] = ..., sampling: _Optional[bool] = ..., temperature: _Optional[float] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., exact: _Optional[bool] = ...) -> None: ...

class GlossaryConfig(_message.Message):
    __slots__ = ("glossary", "ignore_case", "entries")
    GLOSSARY_FIELD_NUMBER: _ClassVar[int]
    IGNORE_CASE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    glossary: str
    ignore_case: bool
    entries: _containers.RepeatedCompositeFieldContainer[GlossaryEntry]
    def __init__(self, glossary: _Optional[str] = ..., ignore_case: _Optional[bool] = ..., entries: _Optional[_Iterable[_Union[GlossaryEntry, _Mapping]]] = ...) -> None: ...

class GlossaryEntry(_message.Message):
    __slots__ = ("source_term", "target_term")
    SOURCE_TERM_FIELD_NUMBER: _ClassVar[int]
    TARGET_TERM_FIELD_NUMBER: _ClassVar[int]
    source_term: str
    target_term: str
    def __init__(self, source_term: _Optional[str] = ..., target_term: _Optional[str] = ...) -> None: ...

class Translation(_message.Message):
    __slots__ = ("translated_text", "score", "hypotheses", "detected_language_code", "model", "warnings")
    TRANSLATED_TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    HYPOTHESES_FIELD_NUMBER: _ClassVar[int]
    DETECTED_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    translated_text: str
    score: float
    hypotheses: _containers.RepeatedCompositeFieldContainer[Hypothesis]
    detected_language_code: str
    model: str
    warnings: _containers.RepeatedCompositeFieldContainer[TranslationWarning]
    def __init__(self, translated_text: _Optional[str] = ..., score: _Optional[float] = ..., hypotheses: _Optional[_Iterable[_Union[Hypothesis, _Mapping]]] = ..., detected_language_code: _Optional[str] = ..., model: _Optional[str] = ..., warnings: _Optional[_Iterable[_Union[TranslationWarning, _Mapping]]] = ...) -> None: ...

class Hypothesis(_message.Message):
    __slots__ = ("text", "score", "tokens", "token_scores", "alignment")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SCORES_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    text: str
    score: float
    tokens: _containers.RepeatedScalarFieldContainer[str]
    token_scores: _containers.RepeatedScalarFieldContainer[float]
    alignment: _containers.RepeatedCompositeFieldContainer[AlignmentLink]
    def __init__(self, text: _Optional[str] = ..., score: _Optional[float] = ..., tokens: _Optional[_Iterable[str]] = ..., token_scores: _Optional[_Iterable[float]] = ..., alignment: _Optional[_Iterable[_Union[AlignmentLink, _Mapping]]] = ...) -> None: ...

class AlignmentLink(_message.Message):
    __slots__ = ("source", "target", "weight")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    source: Span
    target: Span
    weight: float
    def __init__(self, source: _Optional[_Union[Span, _Mapping]] = ..., target: _Optional[_Union[Span, _Mapping]] = ..., weight: _Optional[float] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class TranslationWarning(_message.Message):
    __slots__ = ("code", "detail")
    class Code(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CODE_UNSPECIFIED: _ClassVar[TranslationWarning.Code]
        REPETITION: _ClassVar[TranslationWarning.Code]
        COPIED_SOURCE: _ClassVar[TranslationWarning.Code]
        UNKNOWN_CHARACTERS: _ClassVar[TranslationWarning.Code]
        SUSPICIOUS_LENGTH: _ClassVar[TranslationWarning.Code]
        GLOSSARY_TERM_NOT_PLACED: _ClassVar[TranslationWarning.Code]
        LENGTH_LIMIT: _ClassVar[TranslationWarning.Code]
        ITEM_CHANGED: _ClassVar[TranslationWarning.Code]
    CODE_UNSPECIFIED: TranslationWarning.Code
    REPETITION: TranslationWarning.Code
    COPIED_SOURCE: TranslationWarning.Code
    UNKNOWN_CHARACTERS: TranslationWarning.Code
    SUSPICIOUS_LENGTH: TranslationWarning.Code
    GLOSSARY_TERM_NOT_PLACED: TranslationWarning.Code
    LENGTH_LIMIT: TranslationWarning.Code
    ITEM_CHANGED: TranslationWarning.Code
    CODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    code: TranslationWarning.Code
    detail: str
    def __init__(self, code: _Optional[_Union[TranslationWarning.Code, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class TranslateStreamRequest(_message.Message):
    __slots__ = ("settings", "contents")
    SETTINGS_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    settings: TranslateRequest
    contents: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, settings: _Optional[_Union[TranslateRequest, _Mapping]] = ..., contents: _Optional[_Iterable[str]] = ...) -> None: ...

class TranslateStreamResponse(_message.Message):
    __slots__ = ("index", "translation", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    translation: Translation
    error: ContentError
    def __init__(self, index: _Optional[int] = ..., translation: _Optional[_Union[Translation, _Mapping]] = ..., error: _Optional[_Union[ContentError, _Mapping]] = ...) -> None: ...

class ContentError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class DetectLanguageRequest(_message.Message):
    __slots__ = ("content", "mime_type")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    content: str
    mime_type: str
    def __init__(self, content: _Optional[str] = ..., mime_type: _Optional[str] = ...) -> None: ...

class DetectLanguageResponse(_message.Message):
    __slots__ = ("languages",)
    LANGUAGES_FIELD_NUMBER: _ClassVar[int]
    languages: _containers.RepeatedCompositeFieldContainer[DetectedLanguage]
    def __init__(self, languages: _Optional[_Iterable[_Union[DetectedLanguage, _Mapping]]] = ...) -> None: ...

class DetectedLanguage(_message.Message):
    __slots__ = ("language_code", "confidence")
    LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    language_code: str
    confidence: float
    def __init__(self, language_code: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "language_pairs", "hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_PAIRS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    language_pairs: _containers.RepeatedCompositeFieldContainer[LanguagePair]
    hash: str
    def __init__(self, name: _Optional[str] = ..., language_pairs: _Optional[_Iterable[_Union[LanguagePair, _Mapping]]] = ..., hash: _Optional[str] = ...) -> None: ...

class LanguagePair(_message.Message):
    __slots__ = ("source_language_code", "target_language_code")
    SOURCE_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    source_language_code: str
    target_language_code: str
    def __init__(self, source_language_code: _Optional[str] = ..., target_language_code: _Optional[str] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("content", "source_language_code", "target_language_code", "model", "search", "translated_text")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LANGUAGE_CODE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    TRANSLATED_TEXT_FIELD_NUMBER: _ClassVar[int]
    content: str
    source_language_code: str
    target_language_code: str
    model: str
    search: SearchOptions
    translated_text: str
    def __init__(self, content: _Optional[str] = ..., source_language_code: _Optional[str] = ..., target_language_code: _Optional[str] = ..., model: _Optional[str] = ..., search: _Optional[_Union[SearchOptions, _Mapping]] = ..., translated_text: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("translation", "source_tokens", "target_tokens", "maps")
    TRANSLATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TARGET_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    translation: Translation
    source_tokens: _containers.RepeatedScalarFieldContainer[str]
    target_tokens: _containers.RepeatedScalarFieldContainer[str]
    maps: _containers.RepeatedCompositeFieldContainer[AttentionMap]
    def __init__(self, translation: _Optional[_Union[Translation, _Mapping]] = ..., source_tokens: _Optional[_Iterable[str]] = ..., target_tokens: _Optional[_Iterable[str]] = ..., maps: _Optional[_Iterable[_Union[AttentionMap, _Mapping]]] = ...) -> None: ...

class AttentionMap(_message.Message):
    __slots__ = ("kind", "layer", "head", "weights")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[AttentionMap.Kind]
        ENCODER: _ClassVar[AttentionMap.Kind]
        DECODER: _ClassVar[AttentionMap.Kind]
        CROSS: _ClassVar[AttentionMap.Kind]
    KIND_UNSPECIFIED: AttentionMap.Kind
    ENCODER: AttentionMap.Kind
    DECODER: AttentionMap.Kind
    CROSS: AttentionMap.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    kind: AttentionMap.Kind
    layer: int
    head: int
    weights: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, kind: _Optional[_Union[AttentionMap.Kind, str]] = ..., layer: _Optional[int] = ..., head: _Optional[int] = ..., weights: _Optional[_Iterable[float]] = ...) -> None: ...
