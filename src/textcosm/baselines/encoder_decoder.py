"""The rival for tasks with a source: transformers' own encoder-decoder, sampled and searched by its ``generate``."""

import importlib.util
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from textcosm.baselines.nucleus import Draw, uniforms_of
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Sources, Vocabulary
from textcosm.errors import ConfigError, DataError
from textcosm.shapes import Mask, Tokens


class EncoderDecoder(nn.Module):
    """Each token from the source and the tokens before it: BART with its norms before each block, as mBART has them
    (arXiv 2001.08210), which trains from scratch without care; learned positions, GELU, tied embeddings.

    Only the trunk is a child, and the embedding its child once, so that no weight is kept and averaged twice.
    """

    kind = "encoder-decoder"

    def __init__(self, config: RivalConfig, vocabulary: Vocabulary):
        if importlib.util.find_spec("transformers") is None:
            raise ConfigError("the encoder-decoder rival needs transformers; run: pip install 'textcosm[hf]'")
        from transformers import MBartConfig, MBartModel

        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        settings: Any = MBartConfig  # its signature hides what every config takes
        self.settings = settings(
            vocab_size=len(vocabulary), d_model=config.width, dropout=config.dropout,
            encoder_layers=config.encoder_depth, encoder_attention_heads=config.heads, encoder_ffn_dim=config.ff_width,
            decoder_layers=config.depth, decoder_attention_heads=config.heads, decoder_ffn_dim=config.ff_width,
            max_position_embeddings=max(config.source_length, config.max_length), tie_word_embeddings=True,
            bos_token_id=vocabulary.start, eos_token_id=vocabulary.end, pad_token_id=vocabulary.pad,
            decoder_start_token_id=vocabulary.start, forced_eos_token_id=None, attn_implementation="sdpa",
        )  # fmt: skip
        self.trunk: Any = MBartModel(self.settings)
        for part in (self.trunk.encoder, self.trunk.decoder):
            del part.embed_tokens
            vars(part)["embed_tokens"] = self.trunk.shared  # found as before, and no second name for its weights

    @property
    def embeddings(self) -> Tensor:
        """One row a token of the vocabulary: on both ways in, and (but for the mask) on the way out."""
        return self.trunk.shared.weight

    def losses(
        self, tokens: Tokens, mask: Mask, generator: torch.Generator, source: Sources | None = None
    ) -> dict[str, Tensor]:
        """Nats per token of texts, each given its source. Padding follows the text, so it needs no mask there."""
        source = _given(source)
        found = self.trunk(
            input_ids=source.tokens,
            attention_mask=source.mask.long(),
            decoder_input_ids=tokens[:, :-1],
            use_cache=False,
        )
        hidden = found.last_hidden_state
        wanted = tokens[:, 1:]
        scored = mask[:, 1:] & (wanted != self.vocabulary.mask)
        logits = F.linear(hidden[scored], self.embeddings[: self.vocabulary.mask])
        return {"loss": F.cross_entropy(logits, wanted[scored])}

    @torch.no_grad()
    def generate(self, seeds: Sequence[int], sampler: RivalSampler, source: Sources | None = None) -> Tokens:
        """A text for each source: ids from the start token to the end token, padded after it.

        With beams, the likeliest text that the search finds (transformers' length penalty of 1), whatever the seed.
        """
        from transformers import GenerationConfig, LogitsProcessorList

        source, words, length = _given(source), self.vocabulary, self.config.max_length
        draw = [] if sampler.beams else [Draw(words.mask, sampler, uniforms_of(seeds, length).to(source.mask.device))]
        settings = GenerationConfig(
            max_new_tokens=length - 1, do_sample=False, num_beams=max(1, sampler.beams), use_cache=True,
            suppress_tokens=[words.mask, words.start, words.pad], decoder_start_token_id=words.start,
            bos_token_id=words.start, eos_token_id=words.end, pad_token_id=words.pad,
        )  # fmt: skip
        whole = self._language_model
        whole.final_logits_bias = torch.zeros(1, len(words), device=source.mask.device)  # mBART's; it has no weights
        return whole.generate(
            input_ids=source.tokens,
            attention_mask=source.mask.long(),
            logits_processor=LogitsProcessorList(draw),
            generation_config=settings,
        )

    @cached_property
    def _language_model(self) -> Any:
        """The trunk with its tied head, as transformers has it; nothing is copied or allocated, and it is no child."""
        from transformers import MBartForConditionalGeneration

        with torch.device("meta"):
            whole: Any = MBartForConditionalGeneration(self.settings)
        whole.model, whole.lm_head.weight = self.trunk, self.embeddings
        return whole.eval()


def _given(source: Sources | None) -> Sources:
    if source is None:
        raise DataError("the encoder-decoder rival answers sources and there are none: give one for each text")
    return source
