"""Texts with blanks: known tokens at their places, a guide that keeps them there, and the text written around them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from textcosm.control.decoder import Decoder
from textcosm.control.gradient import persuade
from textcosm.control.length import Length
from textcosm.errors import ConfigError, DataError
from textcosm.shapes import Forms, Latents, Logits, Tokens
from textcosm.text.tokenizer import Tokenizer

BLANK = re.compile("_{3,}")
"""What a reader is to fill: three underscores or more."""
USUAL = range(5, 16)
"""Tokens of a blank, drawn where nothing is known of how long a text should be."""
SCALE, STEPS = 4.0, 2
"""Of the guide: on stories, 25 steps, the decoder keeps .49 of the known tokens at 2 (1 step), .93 at 4, .94 at 8."""

SETTLE_SCALE, SETTLE_STEPS = 1.0, 6
"""Of the small steps after the walk, where no network comes in between: five stories went from .92 of their tokens to all."""


@dataclass(frozen=True)
class Filled:
    """A text whose given parts stand as they were given, letter by letter, and whose blanks a model has filled."""

    text: str
    kept: float
    """Share of the given tokens that the decoder itself put at their places, from 0 to 1, before they were written in."""


@dataclass(frozen=True)
class Template:
    """What is given of a text: its parts around the blanks; ``open`` where the last blank runs to wherever the text ends."""

    parts: tuple[str, ...]
    open: bool = False

    @classmethod
    def parse(cls, text: str) -> "Template":
        """"A cat ____ home." with its blanks. Raises DataError where there is no blank, or nothing else."""
        parts = tuple(BLANK.split(text))
        if not text.strip():
            raise DataError("the text to fill is empty: give one with a blank, such as 'Anna lost her keys. ____'")
        if len(parts) == 1:
            raise DataError(f"there is no blank in {text!r}: mark it with three underscores or more, ___")
        if not any(part.strip() for part in parts):
            raise DataError(f"there is nothing but blanks in {text!r}: give some text, or generate a new one")
        return cls(parts)

    @classmethod
    def beginning(cls, prefix: str) -> "Template":
        """A text that begins so. Raises DataError where nothing is given."""
        if not prefix.strip():
            raise DataError("the text to continue is empty: give its beginning, or generate a new one")
        return cls((prefix, ""), open=True)


@dataclass(frozen=True)
class Layout:
    """Where the tokens of one template stand: the row that the model is to write, and the places of its blanks."""

    tokens: tuple[int, ...]
    """From the start token on; the mask token at blank places; up to the end token, or to ``max_length`` where open."""
    blanks: tuple[range, ...]


def blank_lengths(length: Length | None, texts: int) -> list[int | None]:
    """Of the blanks of each text: one number for all texts, or one for each; None is to be drawn. Raises ConfigError."""
    if isinstance(length, str):
        raise ConfigError(f"length is {length!r}; a blank takes a number of tokens, or none to have it drawn")
    found: list[int | None] = [length] * texts if length is None or isinstance(length, int) else [*length]
    if len(found) != texts:
        raise ConfigError(f"{len(found)} lengths for the blanks of {texts} texts: give one for each, or one for all")
    return found


def lay_out(
    template: Template, tokenizer: Tokenizer, max_length: int, seed: int, record: Mapping[str, Any], length: int | None
) -> Layout:
    """Every blank ``length`` tokens long; or, by ``seed``, as long as it takes for a text of a recorded length.

    Raises ConfigError where the text is longer than ``max_length``, its start and end among it, or no length of a blank.
    """
    if length is not None and length < 1:
        raise ConfigError(f"length is {length}; a blank takes a number of tokens, 1 or more")
    given = [_ids(part, tokenizer) for part in template.parts]
    known, blanks = sum(map(len, given)), len(given) - 1
    room = max_length - 2 - known
    if room < blanks * (length or 1):
        raise ConfigError(
            f"the text has {known} tokens and {blanks} blank(s) of {length or 1} or more; this model writes "
            f"{max_length - 2} tokens in all: shorten it"
        )
    if template.open:
        lengths = [max_length - 1 - known]
    else:
        lengths = [length] * blanks if length else _drawn(known, blanks, room, seed, record)
    tokens, places = [tokenizer.start_id, *given[0]], []
    for blank, part in zip(lengths, given[1:], strict=True):
        places.append(range(len(tokens), len(tokens) + blank))
        tokens += [tokenizer.mask_id] * blank + part
    return Layout((*tokens, *([] if template.open else [tokenizer.end_id])), tuple(places))


def _ids(part: str, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a part, however long it is, without the space that ends it: that belongs to what follows."""
    row = tokenizer.tokenize([part.rstrip()], len(part.encode()) + 2 + 1).tokens[0].tolist()
    return row[1:-1]


def _drawn(known: int, blanks: int, room: int, seed: int, record: Mapping[str, Any]) -> list[int]:
    """Lengths of the blanks: what a text of a recorded length leaves them, in equal shares, or usual ones."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(record.get("data", {}).get("lengths", []), dtype=torch.float)[known + 2 + blanks :]
    if counts.any():
        total = blanks + int(torch.multinomial(counts, 1, generator=generator))
        total = min(total, room)
    else:
        draws = torch.randint(USUAL.start, USUAL.stop, (blanks,), generator=generator)
        total = min(int(draws.sum()), room)
    return [total // blanks + (i < total % blanks) for i in range(blanks)]


@dataclass(frozen=True)
class Known:
    """Guides each text towards the tokens that are known of it, and puts them there.

    The guide climbs the decoder's own mean log-probability of the known tokens; only the decoder is differentiated.
    """

    decoder: Decoder
    tokens: Tokens
    known: Bool[Tensor, "batch length"]

    @classmethod
    def of(cls, layouts: Sequence[Layout], decoder: Decoder) -> "Known":
        """From the layouts of all texts."""
        length = decoder.autoencoder.config.max_length
        tokens = torch.full((len(layouts), length), decoder.tokenizer.pad_id)
        known = torch.zeros_like(tokens, dtype=torch.bool)
        for row, layout in enumerate(layouts):
            tokens[row, : len(layout.tokens)] = torch.tensor(layout.tokens)
            known[row, 1 : len(layout.tokens)] = True
            for blank in layout.blanks:
                known[row, blank.start : blank.stop] = False
        return cls(decoder.including(tokens), tokens, known)

    def select(self, rows: slice) -> "Known":
        return replace(self, tokens=self.tokens[rows], known=self.known[rows])

    def __call__(self, clean: Latents, time: float) -> Latents:
        return persuade(self.log_probability, clean, SCALE * (1 - time), STEPS)

    def settle(self, latents: Latents) -> Latents:
        """The end of a walk, brought nearer to the known tokens in small steps."""
        return persuade(self.log_probability, latents, SETTLE_SCALE, SETTLE_STEPS)

    def log_probability(self, latents: Latents) -> Float[Tensor, " batch"]:
        """The mean over a text's known places."""
        known, tokens = self.known.to(latents.device), self.tokens.to(latents.device)
        hidden = self.decoder.hidden(latents)
        sure = self.decoder.score(hidden, tokens)[known] - self.decoder.whole(hidden[known][None])[0]
        return torch.zeros_like(known, dtype=sure.dtype).masked_scatter(known, sure).sum(1) / known.sum(1)

    def choose(self, logits: Logits, tokens: Tokens) -> Tokens:
        """``tokens`` with the known ones at their places, and words where a frame was decoded in a blank between them."""
        known, given = self.known.to(tokens.device), self.tokens.to(tokens.device)
        between = ~known & (known.flip(1).cumsum(1).flip(1) > 0)
        between[:, 0] = False
        return torch.where(known, given, self.decoder.worded(logits, tokens, between))

    def held(self, tokens: Tokens) -> Bool[Tensor, "batch length"]:
        """The known ones."""
        return self.known.to(tokens.device)

    def kept(self, tokens: Tokens) -> Float[Tensor, " batch"]:
        """The share of each text's known tokens, its end left out, that are at their places in ``tokens``."""
        words = self.known & (self.tokens != self.decoder.tokenizer.end_id)
        return ((tokens.cpu() == self.tokens) & words).sum(1) / words.sum(1)

    @property
    def count(self) -> int:
        """Known tokens of the text that has the most of them."""
        return int(self.known.sum(1).max())


def filled(
    templates: Sequence[Template],
    layouts: Sequence[Layout],
    tokens: Tokens,
    forms: Forms,
    kept: Float[Tensor, " batch"],
    tokenizer: Tokenizer,
) -> list[Filled]:
    """The texts: what was given, letter by letter, around what is written in the blanks."""

    def said(row: int, place: int) -> str:
        return tokenizer.detokenize(tokens[row : row + 1, :place], forms[row : row + 1, :place])[0]

    texts = []
    for row, (template, layout) in enumerate(zip(templates, layouts, strict=True)):
        text = template.parts[0]
        for blank, part in zip(layout.blanks, template.parts[1:], strict=True):
            new = said(row, blank.stop)[len(said(row, blank.start)) :]
            bare = not template.open or text[-1:].isspace()  # the template has its own spaces
            text += (new.strip() if bare else new) + part
        texts.append(text)
    return [Filled(text, share) for text, share in zip(texts, kept.tolist(), strict=True)]
