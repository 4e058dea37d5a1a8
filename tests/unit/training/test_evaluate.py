from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import SearchConfig
from model.errors import UserError
from training.evaluate import evaluate, quick_bleu, score
from training.testset import TestSet, check_names, load_test_set

SOURCES = tuple(f"sentence {i} about {word}" for i, word in enumerate(("trains", "coffee", "rain", "tigers") * 15))
REFERENCES = tuple((source.replace("about", "of all the"),) for source in SOURCES)
RAGGED = (
    ("the cat sat on the mat", "a cat was sitting on the mat"),
    ("hello there friend",),
    ("x", "y", "one two three"),
)
DIRECT = {"BLEU": sacrebleu.BLEU, "chrF2": sacrebleu.CHRF, "TER": sacrebleu.TER}


@dataclasses.dataclass(frozen=True)
class FakeTranslation:
    text: str


@dataclasses.dataclass(frozen=True)
class FakeTranslator:
    """Applies a function to every text."""

    function: Callable[[str], str]
    name: str = "fake"
    hash: str = "0123456789abcdef"

    def translate(self, texts, source, target, search=None, progress=None) -> list[FakeTranslation]:
        if progress is not None:
            progress(len(texts))
        return [FakeTranslation(self.function(text)) for text in texts]


def perfect(text: str) -> str:
    return text.replace("about", "of all the")


def worse(text: str) -> str:
    return text.replace("about", "of")


def columns(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """As sacreBLEU documents it: None for a missing reference. Written without the code under test."""
    widest = max(map(len, references))
    return [[row[i] if i < len(row) else None for row in references] for i in range(widest)]


def toy(sources: Sequence[str] = SOURCES, references: Sequence[Sequence[str]] = REFERENCES) -> TestSet:
    return TestSet("toy.en-de", "en", "de", tuple(sources), tuple(map(tuple, references)))


# -- scores ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        (["the cat sat on the mat"], [("the cat sat on the mat",)]),
        (["the cat sat on a mat", "Hello there, friend!"], [("the cat sat on the mat",), ("hello there friend",)]),
        (["a cat sat on the mat", "hello friend", "one two"], RAGGED),
        (["", "", ""], RAGGED),
        (["completely different words here", "unrelated", "nothing"], RAGGED),
        (list(map(worse, SOURCES)), REFERENCES),
    ],
)
def test_scores_intervals_and_signatures_equal_a_direct_sacrebleu_call(hypotheses, references):
    reports = score(hypotheses, references)
    assert [report.metric for report in reports] == ["BLEU", "chrF2", "TER"]
    for report in reports:
        metric = DIRECT[report.metric]()
        expected = metric.corpus_score(hypotheses, columns(references), n_bootstrap=1000)
        assert report.score == pytest.approx(expected.score, abs=1e-9)
        assert report.mean == pytest.approx(expected._mean, abs=1e-4)
        assert report.confidence == pytest.approx(expected._ci, abs=1e-4)
        assert report.signature == str(metric.get_signature())
        assert report.p_value is None
    assert quick_bleu(hypotheses, references) == reports[0].score


@pytest.mark.parametrize(
    ("hypothesis", "references", "expected"),
    [
        # 4-gram precisions by hand: 5/6 * 3/5 * 2/4 * 1/3, no brevity penalty
        ("the cat sat on a mat", ["the cat sat on the mat"], 100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25),
        # the second reference supplies what the first lacks
        ("the cat sat on a mat", ["the cat sat on the mat", "the cat sat on a mat"], 100.0),
        (
            "The cat sat on the mat",
            ["the cat sat on the mat"],
            100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25,
        ),  # mixed case
    ],
)
def test_bleu_against_its_closed_form(hypothesis, references, expected):
    assert quick_bleu([hypothesis], [references]) == pytest.approx(expected)


def test_missing_references_neither_help_nor_harm():
    same = "hello there my friend"
    one = score([same], [(same,)])
    ragged = score([same] * 2, [(same,), (same, "good day to you")])
    assert [report.score for report in one] == pytest.approx([100.0, 100.0, 0.0])
    assert [report.score for report in ragged] == pytest.approx([100.0, 100.0, 0.0])
    assert "nrefs:1" in one[0].signature.split("|")
    assert "nrefs:var" in ragged[0].signature.split("|")


@pytest.mark.parametrize(
    "report",
    score([perfect(s) if i % 3 else worse(s) for i, s in enumerate(SOURCES)], REFERENCES),
    ids=lambda report: report.metric,
)
def test_the_interval_contains_the_score(report):
    assert report.confidence > 0
    assert report.mean - report.confidence <= report.score <= report.mean + report.confidence


def test_signature_names_tokenizer_case_seed_and_version():
    signature = score(["a b c d e"], [("a b c d e",)], ["bleu"])[0].signature
    for part in ("nrefs:1", "bs:1000", "seed:12345", "case:mixed", "tok:13a", f"version:{sacrebleu.__version__}"):
        assert part in signature.split("|")


def test_lengths_that_differ_are_never_cut():
    with pytest.raises(ValueError, match="1 hypotheses for 3 references"):
        score(["a"], RAGGED)
    with pytest.raises(ValueError, match="2 hypotheses for 1 references"):
        quick_bleu(["a", "b"], [("a",)])


@pytest.mark.parametrize("metrics", [["bleu", "meteor"], []])
def test_an_unknown_metric_names_the_known_ones(metrics):
    with pytest.raises(UserError, match="known metrics: bleu, chrf, ter"):
        score(["a"], [("a",)], metrics)


def test_the_target_language_chooses_the_tokenizer_of_languages_without_spaces():
    chinese = TestSet("toy", "en", "zh", ("the weather",), (("今天天气很好",),))
    report = evaluate([FakeTranslator(lambda text: "今天天气很好")], chinese, metrics=["bleu"]).systems[0].scores[0]
    assert "tok:zh" in report.signature
    assert report.score == pytest.approx(100.0)
    hypotheses = ["今天的天气很好"]  # one word, and a wrong one, for 13a
    assert quick_bleu(hypotheses, chinese.references, "zh") > 40 > 1 > quick_bleu(hypotheses, chinese.references)
    (alone,) = score(hypotheses, chinese.references, ["bleu"], "zh")
    assert alone.score == quick_bleu(hypotheses, chinese.references, "zh")


def test_two_test_sets_of_one_name_are_refused():
    tests = [TestSet("dev", "en", target, ("a",), (("b",),)) for target in ("de", "fr")]
    check_names(tests)
    check_names([])
    with pytest.raises(UserError, match="2 test sets are called dev en-fr"):
        check_names([*tests, tests[1]])


# -- comparison ------------------------------------------------------------------------------------------------------


def test_identical_systems_are_not_significantly_different():
    systems = evaluate([FakeTranslator(worse), FakeTranslator(worse, "again")], toy()).systems
    assert [report.p_value for report in systems[0].scores] == [None] * 3
    assert [report.p_value for report in systems[1].scores] == [1.0] * 3


def test_a_single_differing_sentence_is_not_significant():
    almost = FakeTranslator(lambda text: perfect(text) if " 7 " in text else worse(text), "almost")
    systems = evaluate([FakeTranslator(worse), almost], toy()).systems
    assert systems[1].scores[0].score > systems[0].scores[0].score
    assert all(report.p_value > 0.05 for report in systems[1].scores)


def test_clearly_different_systems_are_significantly_different():
    evaluation = evaluate([FakeTranslator(worse, "base"), FakeTranslator(perfect, "new")], toy())
    base, new = evaluation.systems
    assert all(report.p_value < 0.01 for report in new.scores)
    assert new.scores[0].score > base.scores[0].score
    assert base.scores == tuple(score(base.hypotheses, REFERENCES))  # company does not change a score
    lines = evaluation.table().splitlines()
    assert "60 sentences, beam 5, length penalty 1" in lines[0]
    assert lines[2].startswith("base 01234567 ") and lines[3].startswith("new 01234567 ") and "(p = 0.001)*" in lines[3]
    for heading in ("BLEU", "chrF2", "TER", "length"):  # columns are aligned
        column = lines[1].index(heading)
        assert all(line[column - 2 : column] == "  " and line[column].isdigit() for line in lines[2:4])
    assert any(line.startswith("BLEU|nrefs:1|bs:1000|seed:12345|") for line in lines)
    assert not any("p =" in line for line in lines[:3])


def test_systems_of_the_same_name_are_told_apart(tmp_path):
    evaluation = evaluate(
        [FakeTranslator(worse, "best", "aaaa"), FakeTranslator(perfect, "best", "bbbb")], toy(), output=tmp_path
    )
    assert [system.name for system in evaluation.systems] == ["best", "best-2"]
    assert sorted(path.parent.name for path in tmp_path.rglob("scores.json")) == ["best-2.bbbb", "best.aaaa"]


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_translations_and_scores_are_kept_so_that_another_can_reproduce_them(tmp_path):
    search = SearchConfig(beam_size=3, length_penalty=0.6)
    seen: list[int] = []
    evaluation = evaluate([FakeTranslator(worse, "runs/x best")], toy(), search, ["bleu", "ter"], tmp_path, seen.append)
    folder = tmp_path / "toy.en-de.beam3.lp0.6" / "runs_x_best.01234567"
    kept = (folder / "hypotheses.txt").read_text(encoding="utf-8").split("\n")[:-1]
    assert kept == list(map(worse, SOURCES)) == list(evaluation.systems[0].hypotheses)
    written = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    assert written["baseline"] == {"name": "runs/x best", "hash": "0123456789abcdef"}
    assert written == json.loads(json.dumps(evaluation.as_dict()))
    assert (written["test"], written["source"], written["target"], written["sentences"]) == (
        "toy.en-de",
        "en",
        "de",
        60,
    )
    assert written["search"]["beam_size"] == 3 and written["sha256"] == toy().sha256 and written["processor"]
    system = written["systems"][0]
    assert system["hash"] == "0123456789abcdef" and system["seconds"] > 0 and system["sentences_per_second"] > 0
    assert system["length_ratio"] == pytest.approx(4 / 6)
    assert [one["metric"] for one in system["scores"]] == ["BLEU", "TER"]
    assert [one["score"] for one in system["scores"]] == [r.score for r in score(kept, REFERENCES, ["bleu", "ter"])]
    assert seen == [60]


def test_the_kept_file_scores_the_same_with_the_sacrebleu_command(tmp_path):
    ends = ["\n", "\r\n", "\x0b", "\u2028", "\x85", "\r"]  # a translation with line ends stays on one line
    evaluation = evaluate(
        [FakeTranslator(lambda text: worse(text).replace(" ", ends[len(text) % 6], 1))], toy(), output=tmp_path
    )
    (tmp_path / "refs").write_text("".join(f"{row[0]}\n" for row in REFERENCES), encoding="utf-8")
    file = next(tmp_path.rglob("hypotheses.txt"))
    assert len(file.read_text(encoding="utf-8").splitlines()) == len(SOURCES)
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        str(tmp_path / "refs"),
        "-i",
        str(file),
        "-m",
        "bleu",
        "-b",
        "-w",
        "4",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(printed) == pytest.approx(evaluation.systems[0].scores[0].score, abs=1e-4)


def test_nothing_is_written_without_an_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate([FakeTranslator(worse)], toy()).directory is None
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_made_is_known_before_translating(tmp_path):
    (tmp_path / "file").write_text("")

    def never(text: str) -> str:
        raise AssertionError("translated first")

    with pytest.raises(UserError, match="cannot be written: Not a directory") as caught:
        evaluate([FakeTranslator(never)], toy(), output=tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_translations_survive_a_failure_of_the_next_system(tmp_path):
    def broken(text: str) -> str:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        evaluate([FakeTranslator(worse), FakeTranslator(broken, "second")], toy(), output=tmp_path)
    assert next(tmp_path.rglob("hypotheses.txt")).read_text(encoding="utf-8").count("\n") == len(SOURCES)


# -- test sets -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), min_size=1).filter(str.strip)


@settings(deadline=None, max_examples=50)  # it writes files, on machines that train meanwhile
@given(st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=4)), min_size=1, max_size=5), st.booleans())
def test_a_tsv_comes_back_as_it_was_written(tmp_path_factory, rows, windows):
    path = tmp_path_factory.mktemp("tsv") / "toy.en-de.tsv"
    end = "\r\n" if windows else "\n"
    text = "".join("\t".join([source, *references]) + end for source, references in rows)
    path.write_bytes((b"\xef\xbb\xbf" if windows else b"") + text.encode())
    loaded = load_test_set(path, "en", "de")
    if not text.startswith("\ufeff"):
        assert loaded.sources == tuple(source for source, _ in rows)
    assert loaded.references == tuple(tuple(references) for _, references in rows)
    assert loaded.name == "toy.en-de"


def test_a_tsv_has_no_quoting_and_its_empty_cells_are_no_references(tmp_path):
    path = tmp_path / "toy.tsv"
    path.write_text('"Yes", he said.\t"Ja", sagte er.\t\t"Ja".\t\nlast line without end\tja', encoding="utf-8")
    loaded = load_test_set(str(path), "en", "de")
    assert loaded.sources == ('"Yes", he said.', "last line without end")
    assert loaded.references == (('"Ja", sagte er.', '"Ja".'), ("ja",))


def test_the_first_sentences_go_by_a_name_that_says_so():
    whole = toy()
    assert whole.first(60) is whole and whole.first(1000) is whole
    part = whole.first(10)
    assert (part.name, part.sources, part.references) == ("toy.en-de.first10", SOURCES[:10], REFERENCES[:10])
    assert part.sha256 != whole.sha256
    with pytest.raises(UserError, match="limit = 0 must be at least 1"):
        whole.first(0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected lines of source<TAB>reference"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"a\tb\nno tab here\n", "line 2: no reference; expected source<TAB>reference"),
        (b"a\tb\n\nc\td\n", "line 2: no source"),
        (b"a\tb\n\tb\n", "line 2: no source"),
        (b"a\tb\na\t\t \n", "line 2: no reference"),
        (b"a\tb\nc\td\nabc\xff\td\n", "line 3: byte 4 is not UTF-8"),
        (b"a\tb\n\xff\xfea\x00", "line 2: byte 1 is not UTF-8"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_place(tmp_path, content, message):
    path = tmp_path / "toy.tsv"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_test_set(path, "en", "de")
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.tsv", "neither a file nor a name that sacreBLEU knows; 'sacrebleu --list' shows the names"),
        ("wmt14/fulll", "did you mean 'wmt14/full'?"),
        ("multi30k/2106", "did you mean 'multi30k/2016'?"),
        ("multi30k/2016", "has no en-xx; it has en-cs, en-de, en-fr"),
        ("..", "neither a file nor a name"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest_known_one(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        load_test_set(name, "en", "xx")
    assert message in str(caught.value) and f"'{name}'" in str(caught.value) and "\n" not in str(caught.value)


class TestSacrebleuSets:
    """Without a network: the folder of sacreBLEU is a temporary one."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        self.dataset = sacrebleu.dataset.DATASETS["multi30k/2016"]
        monkeypatch.setattr(self.dataset, "_outdir", str(tmp_path))
        monkeypatch.setattr(self.dataset, "_rawdir", str(tmp_path / "raw"))
        self.path = tmp_path

    def test_a_fetched_set_is_read_line_by_line(self):
        (self.path / "multi30k_2016.en-de.src").write_text("A dog\u2028runs. \nTwo men.\n", encoding="utf-8")
        (self.path / "multi30k_2016.en-de.ref").write_text("Ein Hund rennt.\nZwei Männer.\n", encoding="utf-8")
        loaded = load_test_set("multi30k/2016", "en", "de")
        assert loaded.sources == ("A dog\u2028runs.", "Two men.")
        assert loaded.references == (("Ein Hund rennt.",), ("Zwei Männer.",))
        assert loaded.name == "multi30k/2016"

    @pytest.mark.parametrize("error", [OSError("no\nnetwork"), SystemExit(1), KeyError("member")])
    def test_a_set_that_cannot_be_fetched_names_the_ways_out(self, error, monkeypatch):
        def fail(*_: object) -> None:
            raise error

        monkeypatch.setattr(self.dataset, "process_to_text", fail)
        with pytest.raises(UserError) as caught:
            load_test_set("multi30k/2016", "en", "de")
        for part in ("'multi30k/2016' cannot be fetched", "sacrebleu -t multi30k/2016 -l en-de", "TSV file"):
            assert part in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("references", ["", "Ein Hund rennt.\n", "a\nb\nc\n"])
    def test_files_left_by_an_interrupted_fetch_are_not_scored(self, references):
        (self.path / "multi30k_2016.en-de.src").write_text("A dog runs.\nTwo men.\n", encoding="utf-8")
        (self.path / "multi30k_2016.en-de.ref").write_text(references, encoding="utf-8")
        with pytest.raises(UserError, match="its files are incomplete"):
            load_test_set("multi30k/2016", "en", "de")
