"""What huggingface.py promises: any encoder's hidden layer, without computing the layers above it."""

import json

import pytest
import torch

from textcosm.errors import BackboneError
from textcosm.text import Backbone, BackboneConfig, open_backbone
from textcosm.text.huggingface import HuggingFaceBackbone
from textcosm.text.tiny import TinyBackbone

transformers = pytest.importorskip("transformers", reason="the hf extra is not installed")

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
GPT2_SIZES = {"n_embd": 16, "n_layer": 3, "n_head": 2}
DISTIL_SIZES = {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}
FAMILIES = {
    "bert": ("Bert", SIZES | {"max_position_embeddings": 64}, 64),
    "roberta": ("Roberta", SIZES | {"max_position_embeddings": 66, "pad_token_id": 0}, 65),
    "mpnet": ("MPNet", SIZES | {"max_position_embeddings": 66}, 64),
    "distilbert": ("DistilBert", DISTIL_SIZES | {"max_position_embeddings": 64}, 64),
    "modernbert": ("ModernBert", SIZES | {"max_position_embeddings": 64, "pad_token_id": 0}, 64),
    "llama": ("Llama", SIZES | {"max_position_embeddings": 64, "num_key_value_heads": 1}, 64),
    "gpt2": ("GPT2", GPT2_SIZES | {"n_positions": 64}, 64),
}
"""A name in transformers, the sizes of a small one, and the longest text that it reads."""


def make_folder(family: str, folder) -> str:
    """A random encoder of this family with the stand-in's vocabulary, saved as a hub would keep it."""
    tokenizer = TinyBackbone().tokenizer
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(tokenizer.to_json())["tokenizer"]))
    names = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "mask_token": "[MASK]",
        "unk_token": "[UNK]",
    }
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(file), **names).save_pretrained(folder)
    prefix, sizes, _ = FAMILIES[family]
    config = getattr(transformers, f"{prefix}Config")(vocab_size=tokenizer.vocab_size, **sizes)
    torch.manual_seed(0)
    getattr(transformers, f"{prefix}Model")(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Family -> folder, made once."""
    return {family: make_folder(family, tmp_path_factory.mktemp(family)) for family in FAMILIES}


TEXTS = ["The dog ran home.", "A very happy teacher ate the last cake at the party."]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_layer_is_the_hidden_state_of_the_whole_model(family, folders):
    whole = transformers.AutoModel.from_pretrained(folders[family]).eval()
    for layer in (0, 1, -2, -1):
        backbone = open_backbone(BackboneConfig(folders[family], layer))
        batch = backbone.tokenize(TEXTS, 64)
        with torch.no_grad():
            states = whole(batch.tokens, attention_mask=batch.mask.long(), output_hidden_states=True).hidden_states
        ours = backbone.encode(batch.tokens, batch.mask)
        assert torch.allclose(ours[batch.mask], states[layer][batch.mask], atol=1e-5), layer
        assert ours.dtype == torch.float32
        assert not ours.requires_grad


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_those_of_the_encoder(family, folders):
    backbone = open_backbone(BackboneConfig(folders[family]))
    assert isinstance(backbone, Backbone)
    assert (backbone.width, backbone.max_tokens) == (16, FAMILIES[family][2])
    assert backbone.embeddings().shape == (backbone.vocab_size, 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_above_the_chosen_one_are_dropped(family, folders):
    counts = [sum(p.numel() for p in weights_of(folders[family], layer)) for layer in (0, 1, 2, 3)]
    assert counts == sorted(set(counts))


def weights_of(folder: str, layer: int):
    return HuggingFaceBackbone(folder, layer)._model.parameters()


def test_the_longest_text_is_read_and_a_longer_one_refused(folders):
    for family in FAMILIES:
        backbone = open_backbone(BackboneConfig(folders[family]))
        tokens = torch.full((1, backbone.max_tokens), 20)
        assert backbone.encode(tokens, tokens > 0).isfinite().all()
        more = torch.full((1, backbone.max_tokens + 1), 20)
        with pytest.raises(BackboneError, match=f"reads {backbone.max_tokens} at most; lower max_length"):
            backbone.encode(more, more > 0)


def test_the_fingerprint_follows_weights_and_layer(folders, tmp_path):
    prints = [HuggingFaceBackbone(folders["bert"], layer).fingerprint for layer in (-1, 3, 2)]
    assert prints[0] == prints[1] != prints[2]
    model = transformers.AutoModel.from_pretrained(make_folder("bert", tmp_path))
    assert HuggingFaceBackbone(str(tmp_path)).fingerprint == prints[0]
    with torch.no_grad():
        model.encoder.layer[2].output.dense.weight[0, 0] += 1e-3
    model.save_pretrained(tmp_path)
    assert HuggingFaceBackbone(str(tmp_path)).fingerprint != prints[0]
    assert HuggingFaceBackbone(str(tmp_path), 2).fingerprint == prints[2]


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_that_it_has_not_is_refused(layer, folders):
    with pytest.raises(BackboneError, match=rf"no layer {layer}; choose 0 \(its embedding\) to 3"):
        open_backbone(BackboneConfig(folders["bert"], layer))


@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "no such encoder", "/no/such/folder"])
def test_an_encoder_that_is_nowhere_is_refused_in_one_line(name):
    with pytest.raises(BackboneError, match=f"no encoder '{name}'") as caught:
        open_backbone(BackboneConfig(name))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(BackboneError, match="no encoder") as caught:
        open_backbone(BackboneConfig(str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_altered_weights_are_refused_in_one_line(tmp_path):
    make_folder("bert", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BackboneError, match="no encoder") as caught:
        open_backbone(BackboneConfig(str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused_not_invented(tmp_path):
    make_folder("bert", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 4}))
    with pytest.raises(BackboneError, match=r"lacks 16 weights \(encoder.layer.3"):
        open_backbone(BackboneConfig(str(tmp_path)))


def test_more_tokens_than_embeddings_are_refused(tmp_path):
    make_folder("bert", tmp_path)
    transformers.BertModel(transformers.BertConfig(vocab_size=50, **FAMILIES["bert"][1])).save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match="has 50 embeddings for"):
        open_backbone(BackboneConfig(str(tmp_path)))


def test_opening_leaves_the_callers_logging_alone(folders):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    open_backbone(BackboneConfig(folders["bert"]))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
