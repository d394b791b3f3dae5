"""A small deterministic stand-in for a pretrained encoder: tests and demonstrations need no download."""

import hashlib
import json
import string
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from textcosm.errors import BackboneError
from textcosm.shapes import Activations, Forms, Mask, Tokens
from textcosm.text.tokenizer import SpecialTokens, TokenBatch, Tokenizer

WIDTH, LAYERS, MAX_TOKENS, SEED = 32, 2, 512, 20250621
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
COMMON_WORDS = """
the a an and but or so if then than because while when where who what how why that this these those it its he him his
she her hers they them their we us our you your i me my was were is are be been am had has have do did does not no yes
to of in on at by for from with into out up down over under after before again about off all some any every many more
most much few one two three four five six seven eight nine ten first last next old new good bad big small little long
short happy sad tired hungry proud angry afraid red blue green white black day night morning evening week month year
time home house school work store park city street room table chair car bus train dog cat bird horse friend family
mother father brother sister son daughter boy girl man woman child children teacher doctor people money food water
bread cake coffee lunch dinner book letter phone game music song movie picture party birthday trip beach river garden
tree rain snow sun went go going came come got get gave give took take made make said say told tell asked ask found
find lost saw see looked look wanted want liked like loved love needed need tried try played play walked walk ran run
ate eat bought buy thought think knew know felt feel began started stopped decided helped worked called turned opened
finally very too really just never always still soon there here back
"""


class TinyBackbone:
    """A :class:`~textcosm.text.backbone.Backbone` with fixed random weights: lower-case word pieces, two layers.

    Each layer mixes a token with its neighbours and with the mean of its text, so activations are contextual as a real
    encoder's are.
    """

    def __init__(self, layer: int = -1, device: str | torch.device = "cpu"):
        if not -LAYERS - 1 <= layer <= LAYERS:
            raise BackboneError(f"the tiny backbone has no layer {layer}; choose 0 to {LAYERS}, or -1 for the last")
        self.name, self.width, self.max_tokens = "tiny", WIDTH, MAX_TOKENS
        self.tokenizer = _tokenizer()
        self.vocab_size = self.tokenizer.vocab_size
        generator = torch.Generator().manual_seed(SEED)
        self._embeddings = torch.randn(self.vocab_size, WIDTH, generator=generator).to(device)
        mixers = torch.randn(LAYERS, 3, WIDTH, WIDTH, generator=generator) / WIDTH**0.5
        self._mixers = mixers[: range(LAYERS + 1)[layer]].to(device)
        digest = hashlib.sha256(self.tokenizer.to_json().encode())
        digest.update(self._embeddings.cpu().numpy().tobytes() + self._mixers.cpu().numpy().tobytes())
        self.fingerprint = digest.hexdigest()[:16]

    def tokenize(self, texts: Sequence[str], max_length: int) -> TokenBatch:
        """See ``Backbone.tokenize``."""
        return self.tokenizer.tokenize(texts, max_length)

    @torch.no_grad()
    def encode(self, tokens: Tokens, mask: Mask) -> Activations:
        """See ``Backbone.encode``."""
        seen = mask.to(self._embeddings.device)[..., None].float()
        hidden = self._embeddings[tokens.to(self._embeddings.device)] * seen
        for left, right, whole in self._mixers:
            before = torch.nn.functional.pad(hidden, (0, 0, 1, 0))[:, :-1]
            after = torch.nn.functional.pad(hidden, (0, 0, 0, 1))[:, 1:]
            mean = hidden.sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
            mixed = hidden + 0.5 * torch.tanh(before @ left + after @ right + mean @ whole)
            hidden = torch.nn.functional.layer_norm(mixed, (WIDTH,)) * seen
        return hidden

    def detokenize(self, tokens: Tokens, forms: Forms) -> list[str]:
        """See ``Backbone.detokenize``."""
        return self.tokenizer.detokenize(tokens, forms)

    def embeddings(self) -> Float[Tensor, "vocab width"]:
        """See ``Backbone.embeddings``."""
        return self._embeddings


def _tokenizer() -> Tokenizer:
    """Special tokens, all letters and digits as word starts and continuations, punctuation, and common words."""
    signs = string.ascii_lowercase + string.digits
    entries = [*SPECIAL, *signs, *(f"##{sign}" for sign in signs), *string.punctuation, "\u2014", *COMMON_WORDS.split()]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(entries))}
    model = {"type": "WordPiece", "vocab": vocab, "unk_token": "[UNK]"}
    model |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    description = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocab[token], "content": token} | plain for token in SPECIAL],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
        | {"strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": None,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": model,
    }
    special = SpecialTokens(start=vocab["[CLS]"], end=vocab["[SEP]"], pad=vocab["[PAD]"], mask=vocab["[MASK]"])
    return Tokenizer(json.dumps(description), special)
