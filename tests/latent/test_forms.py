"""The form head's three witnesses: the activation, the token, the token before."""

import torch

from textcosm.latent.forms import FormHead, before
from textcosm.shapes import NUM_FORMS

VOCAB, WIDTH = 12, 8


def corpus() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token 3 is always form 2, whatever follows token 5 is form 4, and otherwise the activation tells 0 from 1."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(VOCAB, (1, 4000), generator=generator)
    hidden = torch.randn(1, 4000, WIDTH, generator=generator)
    forms = (hidden[..., 0] > 0).long()
    forms = torch.where(before(tokens) == 5, torch.full_like(forms, 4), forms)
    forms = torch.where(tokens == 3, torch.full_like(forms, 2), forms)
    return hidden, tokens, before(tokens), forms


def fitted() -> FormHead:
    head = FormHead(WIDTH, VOCAB)
    hidden, tokens, preceding, forms = (x[0] for x in corpus())
    head.count(tokens, preceding, forms)
    head.fit(hidden, tokens, preceding, forms)
    return head


def accuracy(scores: torch.Tensor, forms: torch.Tensor) -> float:
    return (scores.argmax(-1) == forms).float().mean().item()


def test_all_three_witnesses_are_heard():
    hidden, tokens, _, forms = corpus()
    head = fitted()
    together = accuracy(head.scores(hidden, tokens), forms)
    alone = accuracy(head(hidden), forms)
    told = accuracy(head.scores(torch.zeros_like(hidden), tokens), forms)
    assert together > 0.97 and together > alone + 0.1 and together > told + 0.1


def test_a_new_head_scores_the_activation_alone():
    head, (hidden, tokens, _, _) = FormHead(WIDTH, VOCAB), corpus()
    assert torch.equal(head.scores(hidden, tokens), head(hidden))
    assert head(hidden).shape == (1, 4000, NUM_FORMS)


def test_tables_are_log_odds_against_the_common_share():
    head = FormHead(WIDTH, VOCAB)
    _, tokens, preceding, forms = (x[0] for x in corpus())
    head.count(tokens, preceding, forms)
    assert head.of_token[3].argmax() == 2 and head.of_token[3, 2] > 1
    assert head.after_token[5].argmax() == 4 and head.after_token[5, 4] > 1
    unseen = FormHead(WIDTH, VOCAB + 1)
    unseen.count(tokens, preceding, forms)
    torch.testing.assert_close(unseen.of_token[VOCAB], torch.zeros(NUM_FORMS))


def test_the_token_before_the_first_is_itself():
    assert before(torch.tensor([[7, 8, 9], [1, 2, 3]])).tolist() == [[7, 7, 8], [1, 1, 2]]
