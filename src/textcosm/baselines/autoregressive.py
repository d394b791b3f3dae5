"""The autoregressive rival: transformers' own LLaMA, sampled by its ``generate`` with a cache of keys and values."""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textcosm.baselines.nucleus import Draw, uniforms_of
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Vocabulary
from textcosm.errors import ConfigError
from textcosm.shapes import Mask, Tokens


class Autoregressive(nn.Module):
    """Each token from those before it: rotary positions, SwiGLU, tied embeddings (arXiv 2302.13971).

    Only the trunk is a child: with the tied head as a second name, its weights would be kept and averaged twice.
    """

    kind = "autoregressive"

    def __init__(self, config: RivalConfig, vocabulary: Vocabulary):
        if importlib.util.find_spec("transformers") is None:
            raise ConfigError("the autoregressive rival needs transformers; run: pip install 'textcosm[hf]'")
        from transformers import LlamaConfig, LlamaModel

        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        settings: Any = LlamaConfig  # its signature hides what every config takes
        self.settings = settings(
            vocab_size=len(vocabulary), hidden_size=config.width, intermediate_size=config.ff_width,
            num_hidden_layers=config.depth, num_attention_heads=config.heads, max_position_embeddings=config.max_length,
            tie_word_embeddings=True, bos_token_id=vocabulary.start, eos_token_id=vocabulary.end,
            pad_token_id=vocabulary.pad, attn_implementation="sdpa",
        )  # fmt: skip
        self.trunk: Any = LlamaModel(self.settings)

    @property
    def embeddings(self) -> Tensor:
        """One row a token of the vocabulary: on the way in, and (but for the mask) on the way out."""
        return self.trunk.embed_tokens.weight

    def losses(self, tokens: Tokens, mask: Mask, generator: torch.Generator) -> dict[str, Tensor]:
        """Nats per token. Padding follows the text, so causal attention needs no mask, and gets no logits."""
        hidden = self.trunk(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        wanted = tokens[:, 1:]
        scored = mask[:, 1:] & (wanted != self.vocabulary.mask)
        logits = F.linear(hidden[scored], self.embeddings[: self.vocabulary.mask])
        return {"loss": F.cross_entropy(logits, wanted[scored])}

    @torch.no_grad()
    def generate(self, seeds: Sequence[int], sampler: RivalSampler) -> Tokens:
        """A text for each seed: ids from the start token to the end token, padded after it."""
        from transformers import GenerationConfig, LogitsProcessorList

        words, length = self.vocabulary, self.config.max_length
        start = torch.full((len(seeds), 1), words.start, device=self.embeddings.device)
        draw = Draw(words.mask, sampler, uniforms_of(seeds, length).to(start.device))
        settings = GenerationConfig(
            max_new_tokens=length - 1, do_sample=False, use_cache=True,
            bos_token_id=words.start, eos_token_id=words.end, pad_token_id=words.pad,
        )  # fmt: skip
        return self._language_model.generate(
            input_ids=start,
            attention_mask=torch.ones_like(start),
            logits_processor=LogitsProcessorList([draw]),
            generation_config=settings,
        )

    @cached_property
    def _language_model(self) -> Any:
        """The trunk with its tied head, as transformers has it; nothing is copied or allocated, and it is no child."""
        from transformers import LlamaForCausalLM

        with torch.device("meta"):
            whole: Any = LlamaForCausalLM(self.settings)
        whole.model, whole.lm_head.weight = self.trunk, self.embeddings
        return whole.eval()
