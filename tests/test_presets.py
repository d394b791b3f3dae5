"""Presets build the models that they name, and the ladder takes one thing away at a time."""

import pytest

from textcosm.errors import ConfigError
from textcosm.latent.perturb import PerturbationConfig
from textcosm.presets import LADDER, PRESETS, on_rung, preset


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
