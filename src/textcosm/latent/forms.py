"""The form head: is a token written as is, Capitalised or in CAPITALS, and does a space stand before it?

Not in the paper: an encoder's vocabulary may be lower-case, and readers are not. Three witnesses are added up: the
estimated activation (a Linear, trained beside the token head), the token itself ("," has no space before it, "anna" is
mostly "Anna") and the token before it (after "." comes a capital). The last two are tables of counts, so that a form
agrees with the token that was chosen even where the estimate is poor; they are filled, and the Linear is fitted to
what they leave open, once the autoencoder is trained.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from textcosm.shapes import NUM_FORMS

SMOOTHING = 2.0
"""Tokens' worth of the common distribution added to each token's counts."""
RIDGE = 1e-4


class FormHead(nn.Linear):
    """Calling it scores the activation alone, for training; :meth:`scores` adds what the tokens say."""

    of_token: Tensor
    after_token: Tensor

    def __init__(self, width: int, vocab_size: int):
        super().__init__(width, NUM_FORMS)
        self.register_buffer("of_token", torch.zeros(vocab_size, NUM_FORMS))
        self.register_buffer("after_token", torch.zeros(vocab_size, NUM_FORMS))

    def scores(
        self, hidden: Float[Tensor, "batch length width"], tokens: Int[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length forms"]:
        """Log-odds of the forms of ``tokens``, estimated at ``hidden``."""
        return self(hidden) + self._told(tokens, before(tokens))

    @property
    def counted(self) -> Bool[Tensor, " vocabulary"]:
        """Which tokens the corpus held; none before :meth:`count`. Of one that it did not hold the table says nothing."""
        return self.of_token.abs().amax(1) > 1e-5

    def _told(self, tokens: Tensor, preceding: Tensor) -> Tensor:
        return self.of_token[tokens] + self.after_token[preceding]

    @torch.no_grad()
    def count(
        self, tokens: Int[Tensor, " tokens"], preceding: Int[Tensor, " tokens"], forms: Int[Tensor, " tokens"]
    ) -> None:
        """Fill the tables from a corpus laid end to end; ``preceding`` is the token before each."""
        common = torch.bincount(forms, minlength=NUM_FORMS).float().add(1)
        common = common / common.sum()
        for table, given in ((self.of_token, tokens), (self.after_token, preceding)):
            counts = torch.zeros_like(table)
            counts.index_put_((given, forms), torch.ones((), device=table.device), accumulate=True)
            shares = (counts + SMOOTHING * common) / (counts.sum(1, keepdim=True) + SMOOTHING)
            table.copy_((shares / common).log())

    def fit(
        self,
        hidden: Float[Tensor, "tokens width"],
        tokens: Int[Tensor, " tokens"],
        preceding: Int[Tensor, " tokens"],
        forms: Int[Tensor, " tokens"],
        iterations: int = 60,
    ) -> None:
        """Fit the Linear to what the tables leave open (convex: L-BFGS with a small ridge)."""
        told = self._told(tokens, preceding)
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        optimizer = torch.optim.LBFGS(
            [weight.requires_grad_(), bias.requires_grad_()], max_iter=iterations, line_search_fn="strong_wolfe"
        )

        def cost() -> Tensor:
            optimizer.zero_grad()
            with torch.enable_grad():
                loss = F.cross_entropy(F.linear(hidden, weight, bias) + told, forms) + RIDGE * weight.square().sum()
                loss.backward()
            return loss

        optimizer.step(cost)
        with torch.no_grad():
            self.weight.copy_(weight)
            self.bias.copy_(bias)


def before(tokens: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length"]:
    """The token before each; the first of a row counts as following itself."""
    return torch.cat([tokens[:, :1], tokens[:, :-1]], dim=1)
