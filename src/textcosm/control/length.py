"""Texts of a wanted length: a guide towards an end at that place, and the place where the end is put."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from textcosm.control.decoder import Decoder
from textcosm.control.gradient import persuade
from textcosm.errors import ConfigError
from textcosm.shapes import Latents, Logits, Tokens

Length = int | Sequence[int] | Literal["natural"]
"""Tokens of a text without its start and end: one number for all texts, one for each, or drawn as in the training data."""
Lengths = Int[Tensor, " batch"]
WITHIN = 2
"""Tokens that an end may be off the wanted length, for the sake of a whole sentence."""
SCALE, STEPS = 1.0, 2
"""Of the guide: two steps of half a latent vector each turn the end of most texts at once."""
CLOSERS = (".", "!", "?")
"""What the guide would see before the end."""


def lengths_of(length: Length | str, seeds: Sequence[int], max_length: int, record: Mapping[str, Any]) -> Lengths:
    """The wanted length of each text; a natural one is drawn from the record's histogram, by the text's own seed.

    Raises ConfigError for a length that no text can have, a wrong number of them, and where no histogram is recorded.
    """
    if length == "natural":
        return _natural(seeds, record)
    if isinstance(length, str):
        raise ConfigError(f"length is {length!r}; give a number of tokens, one for each text, or natural")
    wanted = [length] * len(seeds) if isinstance(length, int) else list(length)
    if len(wanted) != len(seeds):
        raise ConfigError(f"{len(wanted)} lengths for {len(seeds)} texts: give one for each, or one for all")
    for number in wanted:
        if not 1 <= number <= max_length - 2:
            raise ConfigError(
                f"length is {number}; this model writes texts of 1 to {max_length - 2} tokens, start and end not counted"
            )
    return torch.tensor(wanted)


def _natural(seeds: Sequence[int], record: Mapping[str, Any]) -> Lengths:
    """``lengths[i]`` counts the training texts of i tokens, start and end among them."""
    counts = record.get("data", {}).get("lengths", [])[3:]
    if not any(counts):
        raise ConfigError(
            "length is natural, but this model does not record the lengths of its training texts: give a number of tokens"
        )
    shares = torch.tensor(counts, dtype=torch.float)
    drawn = [torch.multinomial(shares, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.cat(drawn) + 1


@dataclass(frozen=True)
class Ending:
    """Guides each text to its end after ``lengths`` tokens, give or take WITHIN, and puts the end there.

    The guide climbs the decoder's own log-probability that a closed sentence and the first end token stand at one of
    those places; only the decoder is differentiated. What is decoded ends at the likeliest of them that does follow a
    closed sentence, else exactly at the wanted length.
    """

    decoder: Decoder
    lengths: Lengths

    def select(self, rows: slice) -> "Ending":
        return replace(self, lengths=self.lengths[rows])

    def __call__(self, clean: Latents, time: float) -> Latents:
        return persuade(self.log_probability, clean, SCALE * (1 - time), STEPS)

    def log_probability(self, latents: Latents) -> Float[Tensor, " batch"]:
        """That the first end token stands within WITHIN of where it should, after the end of a sentence."""
        allowed = self._allowed(latents.device)
        hidden = self.decoder.hidden(latents)  # all places: fewer would be decoded otherwise, and differ by batch
        score = self.decoder.score(hidden, torch.tensor(self.decoder.tokenizer.end_id, device=latents.device))
        # Roughly, but for the allowed places, where the end has to outvote the likeliest word.
        ending = score - torch.logaddexp(score, self.decoder.rest(hidden))
        exact = score[allowed] - self.decoder.whole(hidden[allowed][None])[0]
        ending = ending.masked_scatter(allowed, exact).clamp(max=-1e-6)
        going_on = torch.log(-torch.expm1(ending))[:, 1:]  # the start token never ends a text
        reached = F.pad(going_on.cumsum(1), (2, 0))[:, :-1]
        closed = torch.zeros_like(ending).masked_scatter(allowed, self._closing(hidden[:, :-1][allowed[:, 1:]]))
        return (ending + reached + closed).masked_fill(~allowed, -torch.inf).logsumexp(1)

    def _closing(self, hidden: Float[Tensor, "places width"]) -> Float[Tensor, " places"]:
        """The log-probability of a sentence's last token."""
        closers = self.decoder.tokenizer.tokenize(CLOSERS, 3).tokens[:, 1].to(hidden.device)
        scores = hidden @ self.decoder.autoencoder.token_head.weight[closers].T
        return scores.logsumexp(-1) - self.decoder.whole(hidden[None])[0]

    def choose(self, logits: Logits, tokens: Tokens) -> Tokens:
        """``tokens`` with the end put in its place, and words for the frames that were decoded before it."""
        end_id = self.decoder.tokenizer.end_id
        places = torch.arange(tokens.shape[1], device=tokens.device)
        body = self.decoder.worded(logits, tokens, (places > 0).expand_as(tokens))
        ends = self._ends(logits[..., end_id] - logits.logsumexp(-1), body)[:, None]
        return torch.where(places < ends, body, torch.where(places == ends, end_id, tokens))

    def held(self, tokens: Tokens) -> Bool[Tensor, "batch length"]:
        """None: the end stays by itself."""
        return torch.zeros_like(tokens, dtype=torch.bool)

    def _ends(self, ending: Float[Tensor, "batch length"], body: Tokens) -> Lengths:
        """The place of each text's end token."""
        closing = self._allowed(body.device)
        for row, place in closing.nonzero().tolist():
            closing[row, place] = self._closes_sentence(body[row : row + 1, max(1, place - 3) : place])
        likeliest = ending.masked_fill(~closing, -torch.inf).argmax(1)
        return torch.where(closing.any(1), likeliest, self.lengths.to(body.device) + 1)

    def _closes_sentence(self, tokens: Tokens) -> bool:
        (text,) = self.decoder.tokenizer.detokenize(tokens, torch.zeros_like(tokens))
        return text.rstrip("\"')]\N{RIGHT DOUBLE QUOTATION MARK} ").endswith((*CLOSERS, "\N{HORIZONTAL ELLIPSIS}"))

    def _allowed(self, device: torch.device) -> Bool[Tensor, "batch length"]:
        """Where the end token may stand; the first token of a text is never its end."""
        places = torch.arange(self.decoder.autoencoder.config.max_length, device=device)
        off = (places - self.lengths.to(device)[:, None] - 1).abs()
        return (off <= WITHIN) & (places > 1)
