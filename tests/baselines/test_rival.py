"""A whole rival: texts, folder and back, and as a subject of evaluation."""

import json

import pytest
import torch

from textcosm.baselines import open_rival, open_subject
from textcosm.baselines.rival import count_forms, new_network
from textcosm.baselines.settings import RivalConfig, RivalSampler, check_kind
from textcosm.cli import main
from textcosm.errors import CheckpointError, ConfigError
from textcosm.pipeline import TextDiffusion

KINDS = ("autoregressive", "masked")


@pytest.mark.parametrize("kind", KINDS)
def test_text_i_of_a_seed_is_the_same_in_any_batch(rival, kind):
    made = rival(kind)
    texts = made.sample(5, seed=3)
    assert made.sample(5, seed=3, batch_size=2) == texts
    assert made.sample(2, seed=3) == texts[:2]
    assert made.sample(5, seed=4) != texts
    assert [len(part) for part in made.stream(5, seed=3, batch_size=2)] == [2, 2, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_the_same_rival(rival, kind, tmp_path):
    made = rival(kind)
    made.save(tmp_path / "rival")
    again = open_rival(tmp_path / "rival", "cpu")
    assert (again.kind, again.sampler, again.record) == (kind, made.sampler, made.record)
    assert again.network.config == made.network.config
    assert again.sample(3, seed=1) == made.sample(3, seed=1)
    index = json.loads((tmp_path / "rival" / "config.json").read_text())
    assert index["metadata"]["kind"] == kind
    assert index["metadata"]["parameters"] == made.parameters


def test_the_forms_of_frequent_tokens_come_back(rival, backbone, batch, vocabulary):
    made = rival("masked")
    tokens = vocabulary.shrink(batch.tokens)
    written = made.write(tokens)
    assert written[0] == "The dog ran home. He was very happy!"
    assert made.forms(tokens)[:, 0].tolist() == [0] * len(tokens)


def test_forms_are_counted_over_a_corpus(vocabulary):
    """A token always seen Capitalised after a space is written so."""
    tokens, forms = torch.tensor([vocabulary.start, 5, 6, 5, 6]), torch.tensor([0, 3, 1, 3, 1])
    head = count_forms(vocabulary, tokens.repeat(50), tokens.roll(1).repeat(50), forms.repeat(50))
    scores = head.scores(torch.zeros(1, 5, 1), tokens[None])
    assert scores.argmax(-1).tolist() == [[0, 3, 1, 3, 1]]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_of_the_default_sizes(vocabulary, rival, kind):
    """The blocks of both kinds are the same size as the stories-16 denoiser's: 4 w^2 + 3 w f each, and two gains."""
    block = 4 * 384**2 + 3 * 384 * 1024 + 2 * 384
    places = 80 * 384 if kind == "masked" else 0
    with torch.device("meta"):
        network = new_network(kind, RivalConfig(), vocabulary)
    other = sum(p.numel() for p in network.parameters()) - network.embeddings.numel()
    assert other == 6 * block + 384 + places
    assert network.embeddings.shape == (len(vocabulary), 384)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rival_is_a_subject_of_evaluation(rival, kind, tmp_path):
    made = rival(kind)
    made.save(tmp_path / "run" / "model")
    subject = open_subject(tmp_path / "run", device="cpu", batch_size=2, steps=4)
    assert subject is not None
    assert (subject.name, subject.manifest["kind"], subject.manifest["sampler"]["steps"]) == ("run", kind, 4)
    assert json.loads(json.dumps(subject.manifest)) == subject.manifest
    texts = [text for part in subject.texts(3, 7) for text in part]
    assert texts == made.sample(3, seed=7, steps=4)


def test_our_own_model_and_no_model_are_no_subjects_of_this_kind(tiny_model, tmp_path):
    tiny_model.save(tmp_path / "own")
    assert open_subject(tmp_path / "own") is None
    assert open_subject(tmp_path / "nowhere") is None
    assert open_subject("stories-16") is None
    with pytest.raises(CheckpointError, match="is no rival but a text diffusion model"):
        open_rival(tmp_path / "own")


def test_bad_settings_name_themselves(rival):
    made = rival("masked")
    with pytest.raises(ConfigError, match="n is 0; it must be at least 1"):
        made.sample(0)
    with pytest.raises(ConfigError, match="steps is 0"):
        made.sample(1, steps=0)
    with pytest.raises(ConfigError, match=r"top_p is 1\.5"):
        RivalSampler(top_p=1.5)
    with pytest.raises(ConfigError, match="temperature is 0"):
        RivalSampler(temperature=0)
    with pytest.raises(ConfigError, match="width is 10, no multiple of 2 x heads = 8"):
        RivalConfig(width=10, heads=4)
    with pytest.raises(ConfigError, match="max_length is 3"):
        RivalConfig(max_length=3)
    with pytest.raises(ConfigError, match="depth is 0"):
        RivalConfig(depth=0)
    with pytest.raises(ConfigError, match="there is no rival 'recurrent'"):
        check_kind("recurrent")


@pytest.mark.parametrize("kind", KINDS)
def test_generate_writes_with_a_rival_and_says_what_it_cannot_do(rival, kind, tmp_path, capsys):
    rival(kind).save(tmp_path / "rival")
    assert main(["generate", "--model", str(tmp_path / "rival"), "-n", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out.splitlines() == [" ".join(text.split()) for text in rival(kind).sample(3, seed=5)]
    assert main(["generate", "--model", str(tmp_path / "rival"), "--solver", "heun"]) == 2
    assert "no text diffusion model in latents: leave --solver out" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match=rf"a rival \({kind}\); open it with textcosm.baselines.open_rival"):
        TextDiffusion.load(tmp_path / "rival", "cpu")
