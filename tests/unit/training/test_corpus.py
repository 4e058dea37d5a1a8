from __future__ import annotations

import errno
import gzip
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import training.corpus
from model.config import from_dict
from model.errors import UserError
from model.segment import normalise
from training.account import Account
from training.cleaning import CleaningConfig
from training.corpus import CorpusConfig, LoadedCorpus, StreamedCorpus, load_corpora

SHARED = Path(__file__).parents[4] / "shared" / "data" / "train"
EVERYTHING = CleaningConfig(wrong_language=False)  # the detector takes a second to load: only where it is the subject


def write(path: Path, *lines: str) -> Path:
    data = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def load(
    root: Path, *configs: CorpusConfig | dict[str, Any], cleaning: CleaningConfig = EVERYTHING
) -> tuple[list[list[tuple[str, str]]], Account]:
    """The pairs of each corpus and the account."""
    made = [c if isinstance(c, CorpusConfig) else CorpusConfig(**{"source": "en", "target": "de"} | c) for c in configs]
    corpora, account = load_corpora(made, cleaning, root, root / "cache")
    return [
        corpus.take(range(len(corpus))) if isinstance(corpus, LoadedCorpus) else list(corpus.iterate())
        for corpus in corpora
    ], account


PAIRS = [("Good morning.", "Guten Morgen."), ("Thank you!", "Danke!"), ("It rains.", "Es regnet.")]


def test_tsv_takes_every_line_as_it_stands(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tsv",
        '\ufeff"Stop!\tHalt!',  # byte order mark, a lone quotation mark
        'He said "no\tEr sagte „nein"\tEr hat "nein" gesagt',  # a second reference
        "carriage\rreturn\tWagen\rrücklauf\r",
        "line\u2028separator\tZeilen\u2028trenner",
        "  too   many\u00a0spaces \t zu  viele ",
    )
    (pairs,), account = load(tmp_path, {"path": "a.tsv"})
    assert pairs == [
        ('"Stop!', "Halt!"),
        ('He said "no', 'Er sagte „nein"'),
        ("carriage return", "Wagen rücklauf"),
        ("line separator", "Zeilen trenner"),
        ("too many spaces", "zu viele"),
    ]
    assert account.corpora[0].read == 5


def test_stray_malformed_records_are_dropped_and_located(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"one\teins\nno tab\n\nGr\xfc\xdfe\tx\n\tleer\ntwo\tzwei")
    (pairs,), account = load(tmp_path, {"path": "a.tsv"})
    assert pairs == [("one", "eins"), ("two", "zwei")]
    assert account.corpora[0].dropped == {"malformed": 2, "empty": 2}
    assert account.corpora[0].examples["malformed"] == "a.tsv:2: one column, no tab"


def test_a_corpus_in_the_wrong_format_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "comma.tsv", *(f"sentence {i},Satz {i}" for i in range(1000)))
    with pytest.raises(UserError, match=r"comma: 101 .* malformed, first comma.tsv:1: one column.*check the format"):
        load(tmp_path, {"path": "comma.tsv"})
    write(tmp_path / "large.tsv", *(f"sentence {i}\tSatz {i}" for i in range(2000)), *("no tab" for _ in range(150)))
    assert load(tmp_path, {"path": "large.tsv"})[1].corpora[0].dropped == {"malformed": 150}  # fewer than a tenth
    write(tmp_path / "short.tsv", "a", "b")
    with pytest.raises(UserError, match=r"short: no pair is left \(2 read, 0 kept; dropped: 2 malformed\)"):
        load(tmp_path, {"path": "short.tsv"})


@pytest.mark.parametrize(("english", "german"), [(3, 5), (5, 3), (0, 1)])
def test_sides_of_differing_length_are_an_error_with_both_counts(tmp_path: Path, english: int, german: int) -> None:
    write(tmp_path / "a.en", *(f"line {i}" for i in range(english)))
    write(tmp_path / "a.de.gz", *(f"Zeile {i}" for i in range(german)))
    with pytest.raises(
        UserError, match=rf"a\.en has {english} lines, .*a\.de\.gz has {german}: .* line {min(english, german) + 1}"
    ):
        load(tmp_path, {"path": ["a.en", "a.de.gz"]})


def test_formats_give_the_same_pairs(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", *map("\t".join, PAIRS))
    write(tmp_path / "a.tsv.gz", *map("\t".join, PAIRS))
    write(tmp_path / "turned.tsv", *("\t".join(reversed(pair)) for pair in PAIRS))
    write(tmp_path / "a.en", *(pair[0] for pair in PAIRS))
    write(tmp_path / "a.de", *(pair[1] for pair in PAIRS))
    write(tmp_path / "codes.jsonl.gz", *(json.dumps({"id": 1, "en": s, "de": t}) for s, t in PAIRS))
    half = '{"source": "half a letter \\ud83d", "target": "ein halber"}'
    write(tmp_path / "sides.jsonl", *(json.dumps({"source": s, "target": t}) for s, t in PAIRS), half, "")
    nested = datasets.Dataset.from_list([{"translation": {"de": t, "en": s}} for s, t in PAIRS])
    nested.to_parquet(str(tmp_path / "wmt[1].parquet"))
    own = datasets.Dataset.from_list([{"src": s, "meta": {"mt": t}} for s, t in PAIRS])
    own.to_parquet(str(tmp_path / "own.parquet"))
    for config in (
        {"path": "a.tsv"},
        {"path": "a.tsv.gz"},
        {"path": "turned.tsv", "turned": True},
        {"path": str(tmp_path / "a.tsv")},
        {"path": ["a.en", "a.de"]},
        {"path": "codes.jsonl.gz"},
        {"path": "sides.jsonl"},
        {"path": "wmt[1].parquet"},
        {"path": "own.parquet", "source_column": "src", "target_column": "meta.mt"},
    ):
        for streaming in (False, True):
            assert load(tmp_path, config | {"streaming": streaming})[0] == [PAIRS], config


def test_folders_and_globs_read_their_files_in_order(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d" / "2.tsv", "two\tzwei")
    write(tmp_path / "d" / "1.jsonl", '{"en": "one", "de": "eins"}')
    write(tmp_path / "d" / "README", "not data")
    assert (
        load(tmp_path, {"path": "d"})[0] == load(tmp_path, {"path": "d/*.*"})[0] == [[("one", "eins"), ("two", "zwei")]]
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"path": "missing.tsv"}, "missing.tsv: no such file"),
        ({"path": "*.tsv"}, r"\*\.tsv: no file matches"),
        ({"path": "empty"}, "no file in this folder ends in .tsv"),
        ({"path": "a.csv"}, "a.csv: unknown format; use .tsv"),
        ({"path": "damaged.tsv.gz"}, "damaged.tsv.gz: cannot be read after line"),
        ({"path": "not.tsv.gz"}, "not.tsv.gz: cannot be read after line 0: Not a gzipped file"),
        ({"path": "not.parquet"}, "not.parquet: not a readable Parquet file"),
        (
            {"path": "a.jsonl", "source_column": "english"},
            "no column 'english'; it has 'en', 'meta.de'; set source_column",
        ),
        ({"path": "a.jsonl"}, "no column 'de' or 'translation.de' or 'target'; it has"),
        ({"path": "a.tsv", "source_column": "en"}, "source_column and target_column need JSONL"),
        ({"path": "a.jsonl", "turned": True}, "a.jsonl: turned is for TSV"),
    ],
)
def test_unreadable_corpora_are_one_clear_line(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "a.csv", "a,b")
    write(tmp_path / "a.jsonl", '{"en": "one", "meta": {"de": "eins"}}')
    whole = gzip.compress(b"".join(b"%d\t%d\n" % (i * i, i) for i in range(9999)))
    (tmp_path / "damaged.tsv.gz").write_bytes(whole[: len(whole) // 2])
    for name in ("not.tsv.gz", "not.parquet"):
        (tmp_path / name).write_text("plain text\tKlartext\n")
    if "source_column" in config:
        write(tmp_path / "a.tsv", "one\teins")
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path, config)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("cache/*.tmp"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wieght": 1}, "unknown key 'wieght'; did you mean 'weight'?"),
        ({"weight": 0}, "weight = 0 must be positive"),
        ({"weight": float("nan")}, "weight = nan must be positive"),
        ({"weight": "much"}, "weight = 'much' must be of type float"),
        ({"target": "en"}, "source and target are both 'en'"),
        ({"target": "<de>"}, "must be a language code"),
        ({"path": ["a.en"]}, "must name a source and a target file"),
        ({"path": 3}, "path = 3 must be text"),
        ({"path": "hf:"}, "must go on with the name"),
        ({"name": "de-en"}, "name = 'de-en' belongs to hub data sets"),
        ({"path": "hf:wmt14", "turned": True}, "turned is for TSV files; 'hf:wmt14' has columns with names"),
    ],
)
def test_config_is_validated(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        from_dict(CorpusConfig, {"path": "a.tsv", "source": "en", "target": "de"} | values, "[[corpus]]")


@pytest.mark.parametrize("value", [{"max_words": 0}, {"max_characters": 0}, {"max_ratio": 0.5}])
def test_cleaning_config_is_validated(value: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(value))):
        CleaningConfig(**value)


# ---- the hub -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_hub_corpus_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool) -> None:
    calls = []

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        dataset = datasets.Dataset.from_list([{"translation": {"de": t, "en": s}} for s, t in PAIRS])
        return dataset.to_iterable_dataset() if options["streaming"] else dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    config = CorpusConfig("hf:wmt14", "en", "de", name="de-en", split="validation", streaming=streaming)
    (corpus,), account = load_corpora([config], EVERYTHING, tmp_path, tmp_path / "cache")
    if isinstance(corpus, StreamedCorpus):
        assert list(corpus.iterate()) == PAIRS
        assert list(corpus.iterate(2)) == PAIRS[2:]
    else:
        assert corpus.take(range(3)) == PAIRS
    assert calls[0] == (("wmt14", "de-en"), {"split": "validation", "streaming": streaming})
    assert corpus.name == account.corpora[0].name == "hf:wmt14/de-en"


@pytest.mark.parametrize("fails_while_reading", [False, True])
def test_hub_out_of_reach_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_while_reading: bool
) -> None:
    class Broken:
        def iter(self, batch_size: int) -> Any:
            raise TimeoutError("read timed out")

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        if fails_while_reading:
            return Broken()
        raise ConnectionError("Couldn't reach 'wmt14' on the Hub\nmore\nlines")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(UserError) as error:
        load(tmp_path, {"path": "hf:wmt14", "name": "de-en"})
    reason = (
        "TimeoutError: read timed out."
        if fails_while_reading
        else "ConnectionError: Couldn't reach 'wmt14' on the Hub."
    )
    assert str(error.value).startswith(
        f"corpus hf:wmt14: cannot be loaded from the Hugging Face hub: {reason} Check the"
    )
    assert "\n" not in str(error.value)


# ---- cleaning ------------------------------------------------------------------------------------------------------


@given(st.text())
def test_normalise(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once == once.strip()
    assert "  " not in once and "\t" not in once and "\n" not in once


def test_normalise_examples() -> None:
    assert normalise("Scho\u0308n  und\u00a0gut\t!\r\n") == "Schön und gut !"
    assert normalise("\ufeffSilben\u00adtrennung\u200b") == "Silbentrennung"
    assert normalise("\ufb01rst e\u2011mail, o\ufb03ce, Ｆｕｌｌ１，") == "first e-mail, office, Full1，"
    assert normalise("\x84Ja\x93 \x96 na klar\x85") == "„Ja“ – na klar…"  # Windows-1252 taken for Latin-1
    assert normalise("می\u200cخواهم") == "می\u200cخواهم"  # the zero-width non-joiner is spelling
    assert normalise("\u200b \u00ad") == ""


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("Good morning.", "Guten Morgen.", None),
        ("x" * 1000, "y" * 1000, None),
        ("x" * 1001, "y" * 1001, "too long"),
        ("a " * 200, "b " * 200, None),
        ("a " * 201, "b " * 201, "too long"),
        ("x" * 1_000_000, "y", "too long"),
        ("caf\ufffd", "Café", "debris"),
        ("Größe", "GrÃ¶ÃŸe", "debris"),
        ("“Yes”", "â€œJaâ€\x9d", "debris"),
        ("nul\0", "Null", "debris"),
        ("SÃO PAULO Â", "São Paulo", None),  # the letters alone are no debris
        ("you", "Sie, ihr, du, man, einen", None),  # short texts may differ by any factor: (24 + 20) / (3 + 20) < 2
        ("x" * 20, "y" * 60, None),
        ("x" * 20, "y" * 61, "ratio"),
        ("Click on the button below.", "click on the button below.", "identical"),
        ("Taxi", "Taxi", None),
        ("New York City Marathon 2019", "New York City Marathon 2019", None),
        ("git commit -a -m", "git commit -a -m", None),
        ("j a m e s", "j a m e s", None),
    ],
)
def test_reasons(tmp_path: Path, source: str, target: str, reason: str | None) -> None:
    write(tmp_path / "a.tsv", f"{source}\t{target}", "kept\tbehalten")
    _, account = load(tmp_path, {"path": "a.tsv"})
    assert account.corpora[0].dropped == ({reason: 1} if reason else {})


def test_wrong_language(tmp_path: Path) -> None:
    right = [
        (
            "In the ribbon, choose Create Connection to open the dialogue.",
            "Wählen Sie im Menüband Create Connection, um das Dialogfeld zu öffnen.",
        ),
        ("The commit rebases the feature branch onto main.", "Der Commit rebased den Feature Branch auf Main."),
        ("Business Central and Power BI", "Business Central und Power BI"),
        (
            "Đorđević threw flyers over Belgrade, Novi Sad and Pančevo.",
            "Đorđević warf Flyer über Belgrad, Novi Sad und Pančevo ab.",
        ),
        ("I work in Rio.", "Ich arbeite in Rio."),
        (
            "See --help, file_name.txt and https://www.debian.org/doc/",
            "Siehe --help, file_name.txt und https://www.debian.org/doc/",
        ),
    ]
    wrong = [
        ("In der aktuellen Situation halten sich viele zurück.", "In the current situation many are holding back."),
        (
            "I just emailed you the whole list of things that we have to do.",
            "Te acabo de enviar por correo la lista de todas las cosas que tenemos que hacer.",
        ),
        ("She did not know what she should say about it.", "She did not know what she should say about it all."),
        ("He has been working here for a long time.", "他在这里工作了很长时间，大家都很喜欢他，他也喜欢大家。"),
    ]
    write(tmp_path / "a.tsv", *map("\t".join, right + wrong))
    (pairs,), account = load(tmp_path, {"path": "a.tsv"}, cleaning=CleaningConfig())
    assert pairs == right
    assert account.corpora[0].dropped == {"wrong language": len(wrong)}


def test_a_language_unknown_to_the_detector_is_noted_not_checked(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", "This is a sentence that has some words.\tThis would not pass for any other language.")
    config = CorpusConfig("a.tsv", "en", "gsw-CH")
    (pairs,), account = load(tmp_path, config, cleaning=CleaningConfig())
    assert len(pairs) == 1
    assert "a: languages not checked: gsw unknown to the detector" in str(account)


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    lines = ["this is just the same\tthis is just the same", "bad\ufffd\tschlecht", "one\teins", "one\teins", "\tleer"]
    write(tmp_path / "a.tsv", *lines)
    off = CleaningConfig(duplicates=False, identical=False, debris=False, wrong_language=False)
    for config, cleaning in (({"path": "a.tsv"}, off), ({"path": "a.tsv", "clean": False}, CleaningConfig())):
        (pairs,), account = load(tmp_path, config, cleaning=cleaning)
        assert pairs == [tuple(line.split("\t")) for line in lines[:4]]
        assert account.corpora[0].dropped == {"empty": 1}


# ---- mixtures ------------------------------------------------------------------------------------------------------


def test_duplicates_across_corpora_stay_with_the_first(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", "one\teins", "two\tzwei", "one\teins", "one\tein")
    write(tmp_path / "b.tsv", "two\tzwei", "three\tdrei")
    write(tmp_path / "turned.tsv", "drei\tthree", "vier\tfour")
    turned = {"path": "turned.tsv", "source": "de", "target": "en"}
    pairs, account = load(tmp_path, {"path": "a.tsv"}, {"path": "b.tsv"}, turned)
    assert pairs == [[("one", "eins"), ("two", "zwei"), ("one", "ein")], [("three", "drei")], [("vier", "four")]]
    assert [corpus.dropped for corpus in account.corpora] == [{"duplicate": 1}] * 3
    assert account.corpora[0].examples["duplicate"] == "one | eins"
    # In one direction only, the turned pair is not the same training example.
    assert len(load(tmp_path, {"path": "b.tsv"}, turned | {"both_ways": False})[0][1]) == 2
    with pytest.raises(UserError, match=r"a \(2\): no pair is left \(4 read, 0 kept; dropped: 4 duplicate\)"):
        load(tmp_path, {"path": "a.tsv"}, {"path": "a.tsv"})


def test_names_are_unique(tmp_path: Path) -> None:
    for folder, line in (("x", "one\teins"), ("y", "two\tzwei"), ("z", "three\tdrei")):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "train.tsv", line)
    _, account = load(tmp_path, *({"path": f"{folder}/train.tsv"} for folder in "xyz"))
    assert [corpus.name for corpus in account.corpora] == ["train", "train (2)", "train (3)"]


words = st.text(alphabet="ab ", max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(words, words), max_size=12), min_size=1, max_size=3), st.data())
def test_a_mixture_equals_its_definition(mixture: list[list[tuple[str, str]]], data: st.DataObject) -> None:
    seen: set[tuple[str, str]] = set()
    expected: list[list[tuple[str, str]]] = []
    for pairs in mixture:
        pairs.append((f"corpus{len(expected)}", "x"))  # none may end up empty
        kept = []
        for pair in ((" ".join(s.split()), " ".join(t.split())) for s, t in pairs):
            if all(pair) and pair not in seen:
                seen.add(pair)
                kept.append(pair)
        expected.append(kept)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for i, pairs in enumerate(mixture):
            write(root / f"{i}.tsv", *map("\t".join, pairs))
        configs = [CorpusConfig(f"{i}.tsv", "en", "de") for i in range(len(mixture))]
        corpora, account = load_corpora(configs, EVERYTHING, root, root / "cache")
        for corpus, pairs, counts in zip(corpora, expected, account.corpora, strict=True):
            assert isinstance(corpus, LoadedCorpus)
            indices = data.draw(st.lists(st.integers(0, len(pairs) - 1), max_size=9))
            assert corpus.take(indices) == [pairs[i] for i in indices]
            assert (
                [corpus[i] for i in range(len(pairs))] == pairs
                and corpus[-1] == pairs[-1]
                and len(corpus) == counts.kept == len(pairs)
            )
        assert [counts.read for counts in account.corpora] == [len(pairs) for pairs in mixture]


# ---- cache ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The corpora that were really read."""
    calls: list[str] = []
    read = training.corpus.read

    def counted(config: CorpusConfig, *arguments: Any) -> Any:
        calls.append(config.title)
        return read(config, *arguments)

    monkeypatch.setattr(training.corpus, "read", counted)
    return calls


def test_a_second_start_reads_nothing_again(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path / "a.tsv", "one\teins", "one\teins", "\t")
    write(tmp_path / "b.tsv", "one\teins", "two\tzwei")
    first = load(tmp_path, {"path": "a.tsv"})
    assert load(tmp_path, {"path": "a.tsv"}) == first
    assert load(tmp_path, {"path": "a.tsv", "weight": 3.0}, {"path": "b.tsv"})[0] == [
        [("one", "eins")],
        [("two", "zwei")],
    ]
    assert reads == ["a", "b"]


def test_changes_that_matter_are_noticed(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path / "a.tsv", "one\teins")
    load(tmp_path, {"path": "a.tsv"})
    write(tmp_path / "a.tsv", "one\teins", "two\tzwei")
    assert len(load(tmp_path, {"path": "a.tsv"})[0][0]) == 2
    load(tmp_path, {"path": "a.tsv"}, cleaning=CleaningConfig(max_words=5, wrong_language=False))
    load(tmp_path, {"path": "a.tsv", "target": "nl"})
    assert reads == ["a"] * 4
    write(tmp_path / "a.tsv", "one\teins", "two\tdrei")  # as long as before
    assert load(tmp_path, {"path": "a.tsv"})[0] == [[("one", "eins"), ("two", "drei")]]


def test_a_damaged_or_half_written_cache_is_made_again(tmp_path: Path, reads: list[str]) -> None:
    write(tmp_path / "a.tsv", *map("\t".join, PAIRS))
    load(tmp_path, {"path": "a.tsv"})
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    arrow = folder / "pairs.arrow"
    for damage in (b"", arrow.read_bytes()[:200], b"x" * 999):
        arrow.write_bytes(damage)
        assert load(tmp_path, {"path": "a.tsv"})[0] == [PAIRS]
    (folder / "account.json").write_text("{")
    assert load(tmp_path, {"path": "a.tsv"})[0] == [PAIRS]
    folder.rename(folder.with_name(folder.name + ".tmp"))  # what SIGKILL leaves behind
    assert load(tmp_path, {"path": "a.tsv"})[0] == [PAIRS]
    assert len(reads) == 6 and not list(tmp_path.glob("cache/*.tmp"))


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    write(tmp_path / "a.tsv", "one\teins")
    monkeypatch.setattr(training.corpus.ArrowWriter, "write_batch", full)
    with pytest.raises(UserError, match=r"cannot keep the cleaned corpus in .*cache: No space left on device; free"):
        load(tmp_path, {"path": "a.tsv"})
    assert not list(tmp_path.glob("cache/*.tmp"))
    monkeypatch.undo()
    assert load(tmp_path, {"path": "a.tsv"})[0] == [[("one", "eins")]]


# ---- streaming -----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["one\teins", "two\tzwei", "\tleer", "no tab", "six\tsechs"]), max_size=30))
def test_a_stream_goes_on_exactly_where_it_stopped(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.corpus, "BLOCK", 7)
        root = Path(folder)
        write(root / "a.tsv", *lines)
        config = CorpusConfig("a.tsv", "en", "de", streaming=True)
        (corpus,), account = load_corpora([config], EVERYTHING, root, root / "cache")
        assert isinstance(corpus, StreamedCorpus)
        whole = []
        positions = [0]
        for pair in corpus.iterate():
            whole.append(pair)
            positions.append(corpus.position)
        assert account.corpora[0].kept == len(whole) and account.corpora[0].read == len(lines)
        blocks = [list(dict.fromkeys(lines[i : i + 7])) for i in range(0, len(lines), 7)]
        unique = [line for block in blocks for line in block if line not in ("\tleer", "no tab")]
        assert ["\t".join(pair) for pair in whole] == unique
        for done, position in enumerate(positions):
            assert list(corpus.iterate(position)) == whole[done:]
        assert not (root / "cache").exists()


def test_a_stream_that_is_missing_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_corpora([CorpusConfig("a.tsv", "en", "de", streaming=True)], EVERYTHING, tmp_path, tmp_path / "cache")


# ---- the account ---------------------------------------------------------------------------------------------------


def test_account_is_an_aligned_table(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv", "one\teins", "\tleer", "no tab", "bell\x07\tGlocke\x07")
    write(tmp_path / "longer-name.tsv", *(f"number {i}\tNummer {i}" for i in range(1234)))
    _, account = load(tmp_path, {"path": "a.tsv"}, {"path": "longer-name.tsv"})
    table = str(account).splitlines()
    assert table[:4] == [
        "corpus        read   kept  malformed  empty  debris",
        "a                4      1          1      1       1",
        "longer-name  1,234  1,234          0      0       0",
        "total        1,238  1,235          1      1       1",
    ]
    assert table[4:] == [
        "a, malformed: a.tsv:3: one column, no tab",
        "a, empty: a.tsv:2:  | leer",
        r"a, debris: a.tsv:4: bell\x07 | Glocke\x07",
    ]
    corpus = account.corpora[0]
    assert corpus.read == 4 == corpus.kept + sum(corpus.dropped.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the corpora of ../shared/data are not here")
def test_a_clean_corpus_stays_whole(tmp_path: Path) -> None:
    config = CorpusConfig("chat.en-de.tsv.gz", "en", "de")
    (corpus,), account = load_corpora([config], CleaningConfig(), SHARED, tmp_path)
    assert isinstance(corpus, LoadedCorpus)
    assert len(corpus) > 0.99 * account.corpora[0].read
