"""The rivals' vocabulary: the backbone's tokens that the training texts have, numbered anew, so that softmaxes are small."""

import json
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from textcosm.errors import CheckpointError
from textcosm.shapes import Mask, Tokens
from textcosm.text.tokenizer import SpecialTokens


@dataclass(frozen=True, eq=False)
class Sources:
    """Texts to answer, in the vocabulary's ids; ``mask`` is True at tokens and False at padding."""

    tokens: Tokens
    mask: Mask


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Ids of the backbone's tokenizer <-> places in ``kept``; the last id, ``mask``, is any token that was not kept."""

    kept: Int[Tensor, " kept"]
    """The backbone's ids, ascending."""
    start: int
    end: int
    pad: int
    """Ours, not the backbone's."""

    @classmethod
    def of(cls, tokens: Int[Tensor, " tokens"], special: SpecialTokens) -> "Vocabulary":
        """The vocabulary of a corpus laid end to end."""
        framing = torch.tensor([special.start, special.end, special.pad])
        kept = torch.cat([tokens.cpu().long(), framing]).unique()
        start, end, pad = torch.searchsorted(kept, framing).tolist()
        return cls(kept, start, end, pad)

    @property
    def mask(self) -> int:
        """The id of a hidden place, and of a token that is not in the vocabulary: read, but never predicted."""
        return len(self.kept)

    def __len__(self) -> int:
        return len(self.kept) + 1

    def shrink(self, tokens: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The backbone's ids to ours."""
        kept = self.kept.to(tokens.device)
        places = torch.searchsorted(kept, tokens).clamp(max=len(kept) - 1)
        return places.masked_fill(kept[places] != tokens, self.mask)

    def widen(self, tokens: Tokens) -> Tokens:
        """Ours to the backbone's; there may be no mask among them."""
        return self.kept.to(tokens.device)[tokens]

    def to_json(self) -> str:
        """Everything that :meth:`from_json` needs."""
        return json.dumps({"kept": self.kept.tolist(), "start": self.start, "end": self.end, "pad": self.pad})

    @classmethod
    def from_json(cls, content: str) -> "Vocabulary":
        """What :meth:`to_json` wrote; CheckpointError for anything else."""
        try:
            stored = json.loads(content)
            return cls(torch.tensor(stored["kept"], dtype=torch.long), *(int(stored[k]) for k in ("start", "end", "pad")))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"not a vocabulary of a rival ({error}); restore the model's files") from error
