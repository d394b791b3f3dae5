"""The masked rival: discrete diffusion that hides tokens and guesses them back (MDLM, arXiv 2406.07524)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from textcosm.baselines.nucleus import choose, uniforms_of
from textcosm.baselines.settings import RivalConfig, RivalSampler
from textcosm.baselines.tokens import Vocabulary
from textcosm.diffusion.denoiser import EPS, Block, DenoiserConfig, rotary
from textcosm.shapes import Mask, Tokens

MIN_TIME = 1e-3
"""The loss of a hidden token is divided by the time: below this the quotient is mostly noise (MDLM's own value)."""


class Masked(nn.Module):
    """All L positions at once, with the denoiser's blocks, a learned position each, and no time: what is hidden tells it.

    The start token is never hidden. Padding after the end is a token like any other: it is how lengths are learned.
    """

    kind = "masked"

    def __init__(self, config: RivalConfig, vocabulary: Vocabulary):
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        blocks = DenoiserConfig(config.width, config.depth, config.heads, config.ff_width)
        self.embed = nn.Embedding(len(vocabulary), config.width)
        self.places = nn.Parameter(0.02 * torch.randn(config.max_length, config.width))
        self.blocks = nn.ModuleList(Block(blocks, crosses=False) for _ in range(config.depth))
        self.norm = nn.RMSNorm(config.width, eps=EPS)
        nn.init.normal_(self.embed.weight, std=0.02)

    @property
    def embeddings(self) -> Tensor:
        """One row a token of the vocabulary: on the way in, and (but for the mask) on the way out."""
        return self.embed.weight

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch length width"]:
        """What is known of each position; :meth:`logits` turns that into scores."""
        x = self.embed(tokens) + self.places
        rotation = rotary(x.shape[1], self.config.width // self.config.heads, x)
        for block in self.blocks:
            x = block(x, rotation, None, None)
        return self.norm(x)

    def logits(self, hidden: Float[Tensor, "positions width"]) -> Float[Tensor, "positions kept"]:
        """Scores of the tokens that may stand there (SUBS: the mask is none of them)."""
        return F.linear(hidden, self.embeddings[: self.vocabulary.mask])

    def losses(self, tokens: Tokens, mask: Mask, generator: torch.Generator) -> dict[str, Tensor]:
        """A bound on the nats per token: hidden tokens' cross-entropy over the time, summed, over the texts' tokens.

        With a log-linear schedule a token is hidden at time t with probability t, and its weight is 1 / t. Times are
        spread evenly over a batch (antithetic sampling), which takes most of the noise out of the sum.
        """
        words = self.vocabulary
        whole = F.pad(tokens, (0, self.config.max_length - tokens.shape[1]), value=words.pad)
        times = _times(len(whole), generator)
        hidden_here = torch.rand(whole.shape, generator=generator, device=generator.device) < times[:, None]
        hidden_here[:, 0] = False
        hidden_here = hidden_here.to(whole.device)
        scored = hidden_here & (whole != words.mask)
        logits = self.logits(self(whole.masked_fill(hidden_here, words.mask))[scored])
        costs = F.cross_entropy(logits, whole[scored], reduction="none")
        weights = (1 / times).to(whole.device)[:, None].expand(whole.shape)[scored]
        return {"loss": (costs * weights).sum() / mask[:, 1:].sum()}

    @torch.no_grad()
    def generate(self, seeds: Sequence[int], sampler: RivalSampler) -> Tokens:
        """A text for each seed: L ids from the start token on.

        A hidden token stays hidden from time t to s with probability s / t, so the time at which it appears is uniform
        in [0, 1]: drawn beforehand, it tells which texts a step changes, and only those pass through the network.
        """
        words, length, device = self.vocabulary, self.config.max_length, self.embeddings.device
        uniforms = uniforms_of(seeds, 2 * length).to(device)
        appears, chances = uniforms[:, :length], uniforms[:, length:]
        tokens = torch.full((len(seeds), length), words.mask, device=device)
        tokens[:, 0] = words.start
        for step in reversed(range(sampler.steps)):
            now = (tokens == words.mask) & (appears >= step / sampler.steps)
            rows = now.any(1)
            if rows.any():
                logits = self.logits(self(tokens[rows])[now[rows]])
                tokens[now] = choose(logits, chances[now], sampler.top_p, sampler.temperature)
        return tokens


def _times(count: int, generator: torch.Generator) -> Float[Tensor, " count"]:
    """One time in each of ``count`` equal parts of [MIN_TIME, 1], at the same place of all parts."""
    device = generator.device
    spread = (torch.rand(1, generator=generator, device=device) + torch.arange(count, device=device)) / count
    return MIN_TIME + (1 - MIN_TIME) * spread
