"""The card says what the checkpoint's record says, and is whole without any of the optional parts."""

import pytest

from textcosm.checkpoint import read_index
from textcosm.errors import CheckpointError
from textcosm.evaluation.card import metrics_table, model_card, write_card
from textcosm.evaluation.measure import measure_autoencoder, measure_generation
from textcosm.pipeline import TextDiffusion

TEXTS = ["The old man walked home in the rain.", "Anna bought a cake for her friend at the shop."]


@pytest.fixture
def folder(tiny_model, tmp_path):
    metrics = {
        "autoencoder": measure_autoencoder(tiny_model, TEXTS, sigmas=(0.0, 0.5)).to_dict(),
        "generation": measure_generation(TEXTS, TEXTS, TEXTS).to_dict(),
        "whole_stories": "7 of 50",
        "start_seconds": 3.21,
        "command": "python runs/stories16.py DIR",
    }
    record = {
        "command": "textcosm train stories.jsonl --out DIR",
        "data": {"name": "stories", "texts": 42},
        "notes": ["English only."],
        "metrics": metrics,
    }
    model = TextDiffusion(
        tiny_model.config, tiny_model.autoencoder, tiny_model.normaliser, tiny_model.denoiser, tiny_model.tokenizer,
        tiny_model.backbone_fingerprint, record, tiny_model.ngrams,
    )  # fmt: skip
    model.save(tmp_path / "little")
    return tmp_path / "little"


def test_the_card_holds_data_command_metrics_and_settings(folder):
    card = write_card(folder).read_text(encoding="utf-8")
    assert card.startswith("# little\n")
    for line in (
        "| latents N x width | 8 x 32 |",
        "| n-grams of the training texts | up to 3 tokens, seen twice or more |",
        "| data.texts | 42 |",
        "textcosm train stories.jsonl --out DIR",
        "| stories of five whole sentences, read by eye | 7 of 50 | shown |",
        "| cold start to the first text, two CPU cores | 3.2 s | <= 8 s |",
        "python runs/stories16.py DIR",
        "- English only.",
        "| schedule.d | 5 |",
    ):
        assert line in card, line
    assert "| BLEU under latent noise 0.5 |" in card
    assert "\n\n\n" not in card


def test_the_card_does_not_disturb_the_checkpoint(folder, tiny_model):
    write_card(folder)
    assert TextDiffusion.load(folder, device="cpu").sample(2) == tiny_model.sample(2)


def test_a_bare_record_gives_a_short_card(folder):
    index = read_index(folder)
    index["metadata"]["record"] = {}
    card = model_card("bare", index)
    del index["states"]["ngrams"]
    assert "n-grams" in card and "n-grams" not in model_card("bare", index)
    assert "## Training" not in card and "## Measured" not in card and "## Settings" in card


def test_the_card_of_a_model_that_answers_sources(folder):
    index = read_index(folder)
    index["metadata"]["config"]["denoiser"]["source_depth"] = 4
    index["metadata"]["record"]["data"]["lengths"] = [0, 0, 0, 3, 2]
    card = model_card("polite", index)
    assert "| source encoder | 4 layers, reads at most 512 tokens |" in card
    assert 'TextDiffusion.load("polite").sample(source=["..."], seed=0)' in card
    assert "data.lengths" not in card and "| data.texts | 42 |" in card


def test_no_metrics_is_no_table():
    assert metrics_table({}) == ""


def test_a_folder_without_a_model_is_a_clear_error(tmp_path):
    with pytest.raises(CheckpointError):
        write_card(tmp_path)
    assert not list(tmp_path.iterdir())
