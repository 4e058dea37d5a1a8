"""Pictures of attention and the scores of heads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from model.errors import UserError
from model.explain import Explanation
from model.translator import Translator
from model.vocabulary import Vocabulary
from training.attention import write
from training.heads import PROBES, Counts, alignment_errors, coreference, score_heads, words
from training.testset import TestSet

SENTENCE = "where is my </script> dog?"


@pytest.fixture(scope="module")
def translator(checkpoint_directory: Path) -> Translator:
    return Translator.load(checkpoint_directory, dtype="float32")


@pytest.fixture(scope="module")
def explanation(translator: Translator) -> Explanation:
    return translator.explain(SENTENCE, "en", "de", translated_text="wo ist $ mein Hund?")


@pytest.mark.parametrize(
    "choices", [{}, {"kind": "encoder", "layer": 0, "head": 1}, {"word": "dog", "kind": "encoder"}, {"layer": 1}]
)
def test_pictures(explanation: Explanation, tmp_path: Path, choices: dict[str, object]) -> None:
    write(explanation, tmp_path / "map.png", **choices)  # type: ignore[arg-type]
    content = (tmp_path / "map.png").read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 5_000


def test_json_and_page_hold_the_weights(explanation: Explanation, tmp_path: Path) -> None:
    write(explanation, tmp_path / "map.json")
    write(explanation, tmp_path / "map.html")
    data = json.loads((tmp_path / "map.json").read_text(encoding="utf-8"))
    assert data["translated_text"] == "wo ist $ mein Hund?"
    for kind, weights in explanation.maps.items():
        torch.testing.assert_close(torch.tensor(data["maps"][kind]["weights"]), weights, atol=1e-4, rtol=0)
    page = (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "http" not in page and "src=" not in page  # no network
    assert page.count("</script>") == 1  # a text cannot end the script
    inside = re.search(r"const data = (.*);\n", page)
    assert inside and json.loads(inside[1]) == data


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("map.gif", {}, r"\.png \.html \.json"),
        ("no/map.png", {}, "no such folder"),
        ("map.png", {"kind": "encoder", "layer": 2}, "layers 0 to 1"),
        ("map.png", {"layer": 7}, "layer = 7"),
        ("map.png", {"head": 2}, "heads 0 to 1"),
        ("map.png", {"word": "horse"}, "'horse' is none of the pieces"),
    ],
)
def test_what_a_user_can_ask_wrong(
    explanation: Explanation, tmp_path: Path, name: str, choices: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        write(explanation, tmp_path / name, **choices)  # type: ignore[arg-type]


# Heads -------------------------------------------------------------------------------------------------------------


def test_separators_are_words_of_their_own(vocabulary: Vocabulary) -> None:
    ids = vocabulary.source_ids("my dog! is", "de")
    pieces = [vocabulary.piece(id) for id in ids]
    numbers, separators = words(vocabulary, ids)
    found = ["".join(p for p, n in zip(pieces, numbers, strict=True) if n == k) for k in range(len(separators))]
    assert found[0] == "<2de>" and found[-1] == "</s>" and "!" in found
    assert [name for name, separator in zip(found, separators, strict=True) if separator] == ["<2de>", "!", "</s>"]
    assert [name.strip("\u2581") for name in found[1:3]] == ["my", "dog"]


def test_a_head_that_does_one_thing_scores_one() -> None:
    length = 6
    eye = torch.eye(length)
    ends = torch.zeros(length, length)
    ends[:, -1] = 1.0
    maps = torch.stack([eye.roll(-1, 1), eye.roll(1, 1), eye, ends])[None]  # (1, 4 heads, 6, 6)
    row = (list(range(length)), [True, False, False, False, False, True])
    counts = Counts()
    counts.add(maps, row, row, "encoder")
    shares = {role: [round(x, 6) for x in share[0].tolist()] for role, share in counts.shares().items()}
    assert shares == {
        "previous word": [1.0, 0.0, 0.0, 0.0],
        "next word": [0.0, 1.0, 0.0, 0.25],
        "same word": [0.0, 0.0, 1.0, 0.0],
        "separator": [0.25, 0.25, 0.0, 1.0],
    }


def test_the_probes_are_well_formed() -> None:
    for line in (PROBES / "alignment.en-de.tsv").read_text(encoding="utf-8").splitlines():
        source, target, links = line.split("\t")
        pairs = [tuple(map(int, link.split("-"))) for link in links.split()]
        assert {i for i, _ in pairs} == set(range(len(source.split())))
        assert {j for _, j in pairs} == set(range(len(target.split())))
    lines = (PROBES / "coreference.en.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) > 20
    for line in lines:
        marked = re.findall(r"\[(\w+)\]", line)
        assert len(marked) == 2 and marked[1] in ("it", "he", "she", "they")


def test_scores_of_a_random_model_are_shares(translator: Translator) -> None:
    test = TestSet("t", "en", "de", ("the cat is.", "where is my dog?"), (("die Katze.",), ("wo ist mein Hund?",)))
    report = score_heads(translator, test)
    assert report.roles["encoder"]["coreference"].shape == (2, 2)
    shares = [share for found in report.roles.values() for share in found.values()]
    assert all(float(share.min()) >= 0.0 and float(share.max()) <= 1.0 for share in shares)
    assert set(report.roles["decoder"]) == {"previous word", "same word", "separator"}
    assert "alignment error rate" in report.table() and json.dumps(report.as_dict())


def test_the_shipped_model_has_heads_that_do_one_thing_and_aligns_words() -> None:
    shipped = Translator.load(dtype="float32")
    errors = alignment_errors(shipped)
    assert min(errors["writes"]) < min(errors["reads"])
    assert errors["chosen"][0] < min(0.25, min(errors["writes"]) + 0.05)  # no worse for not knowing which layer is best
    found, chance = coreference(shipped)
    assert float(found.max()) > 2 * chance
