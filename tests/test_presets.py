"""Presets build the models that they name, and the ladder takes one thing away at a time."""

from dataclasses import replace

import pytest
import torch

from textcosm.diffusion.denoiser import new_denoiser
from textcosm.errors import ConfigError
from textcosm.latent.perturb import PerturbationConfig
from textcosm.presets import LADDER, PRESETS, answering, on_rung, preset, unconditional
from textcosm.tasks import TASKS


def test_the_uncompressed_rival_differs_from_stories_16_only_where_it_must():
    ours, rival = preset("stories-16").recipe, preset("stories-uncompressed").recipe
    sizes = rival.model.autoencoder
    assert (sizes.num_latents, sizes.max_length, sizes.compressor_depth, sizes.decompressor_depth) == (80, 80, 0, 0)
    assert rival.model.denoiser == ours.model.denoiser and rival.model.backbone == ours.model.backbone
    assert rival.data == ours.data and rival.seed == ours.seed
    for rate in ("learning_rate", "final_learning_rate", "batch_size", "optimizer", "ema"):
        assert getattr(rival.diffusion_training, rate) == getattr(ours.diffusion_training, rate)


def test_the_rival_ends_sampling_at_the_noise_of_stories_16():
    alphas = [
        model.schedule.alpha(model.sampler.end_time).item()
        for model in (preset(name).recipe.model for name in ("stories-16", "stories-uncompressed"))
    ]
    assert alphas[0] == pytest.approx(alphas[1], rel=0.03)


def test_a_recipe_reads_sources_where_its_task_has_them():
    tasks = {name: row.recipe.data.task for name, row in PRESETS.items() if row.recipe.data.is_paired}
    assert tasks == {
        "detox-16": "detoxification", "questions-16": "question-generation", "summaries-16": "summarisation",
        "paper-conditional": "summarisation",
    }  # fmt: skip
    assert all((row.recipe.model.denoiser.source_depth > 0) == row.recipe.data.is_paired for row in PRESETS.values())
    lengths = [preset(name).recipe.model.autoencoder.max_length for name in ("detox-16", "questions-16", "summaries-16")]
    assert lengths == [TASKS[name].length for name in ("detoxification", "question-generation", "summarisation")]


def test_any_recipe_can_answer_sources_or_not():
    stories, detox = preset("stories-16").recipe, preset("detox-16").recipe
    assert answering(stories).model.denoiser == replace(stories.model.denoiser, source_depth=6)
    assert answering(detox) is detox
    assert unconditional(detox).model.denoiser.source_depth == 0 and not unconditional(detox).data.is_paired
    assert unconditional(stories) == stories


def test_the_published_conditional_size():
    config = preset("paper-conditional").recipe.model
    with torch.device("meta"):
        denoiser = new_denoiser(config.denoiser, config.schedule, (16, 768), 768)
    assert denoiser.source is not None
    source = sum(parameter.numel() for parameter in denoiser.source.parameters()) / 1e6
    whole = sum(parameter.numel() for parameter in denoiser.parameters()) / 1e6
    assert source == pytest.approx(113.3 + 12 * 1.18, abs=0.3)  # twelve blocks, and what each block reads
    assert whole - source == pytest.approx(129.8 + 12 * 1.18, abs=0.3)  # and cross-attention in every block


def test_every_rung_adds_one_thing():
    recipe = preset("stories-16").recipe
    rungs = [on_rung(recipe, name).model for name in LADDER]
    assert [model.autoencoder_objective.alignment for model in rungs] == [0.0, 1.0, 1.0, 1.0]
    off, activations = PerturbationConfig(0.0, 1.0, 0.0), PerturbationConfig(0.15, 0.85, 0.0)
    assert [model.perturbation for model in rungs[:3]] == [off, off, activations]
    assert on_rung(recipe, "full") == recipe
    assert all(model.autoencoder_objective.form == 0.1 for model in rungs)
    assert all(rung.sentence.endswith(".") for rung in LADDER.values())


def test_unknown_names_list_what_there_is():
    with pytest.raises(ConfigError, match="no rung 'mse'; choose one of cross-entropy, alignment, activations, full"):
        on_rung(preset("tiny").recipe, "mse")
    with pytest.raises(ConfigError, match=f"choose one of {', '.join(PRESETS)}"):
        preset("huge")
