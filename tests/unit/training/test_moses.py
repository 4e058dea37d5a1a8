from __future__ import annotations

from pathlib import Path

import pytest
import sacrebleu

from training.evaluate import score
from training.moses import MosesBLEU
from training.testset import load_test_set

MULTI30K = Path(__file__).parents[4] / "shared" / "data" / "eval" / "multi30k.test2016.en-de.tsv"


def test_case_and_tokens_are_those_of_the_paper() -> None:
    metric = MosesBLEU("de")
    assert metric._preprocess_segment("Ein T-Shirt, „blau“.") == 'ein t-shirt , " blau " .'


def test_it_is_bleu_over_those_tokens() -> None:
    hypotheses = ["Ein Hund läuft, springt und bellt.", "Zwei Frauen stehen auf der Straße"]
    references = [("Ein Hund rennt, springt und bellt laut.",), ("zwei frauen stehen an einer Straße",)]
    tokens = MosesBLEU("de")._preprocess_segment
    direct = sacrebleu.BLEU(tokenize="none", force=True).corpus_score(
        list(map(tokens, hypotheses)), [[tokens(reference) for (reference,) in references]]
    )
    report = score(hypotheses, references, ["bleu", "bleu-moses"])
    assert [one.metric for one in report] == ["BLEU", "BLEU-moses"]
    assert "case:lc" in report[1].signature and "tok:moses" in report[1].signature
    assert report[1].score == pytest.approx(direct.score)
    assert report[0].score == pytest.approx(
        sacrebleu.BLEU().corpus_score(hypotheses, [[r[0] for r in references]]).score
    )


@pytest.mark.skipif(not MULTI30K.is_file(), reason="the test sets of ../shared/data are not here")
def test_as_many_tokens_as_the_log_of_the_paper_counts() -> None:
    test = load_test_set(MULTI30K, "en", "de")
    tokens = MosesBLEU("de")._preprocess_segment
    assert sum(len(tokens(reference).split()) for (reference,) in test.references) == 12_103
