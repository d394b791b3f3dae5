"""Best of k by minimum Bayes risk: of several candidates, the text that the others agree with most."""

from collections.abc import Callable, Sequence

from textcosm.errors import ConfigError


def chooser(candidates: int) -> Callable[[Sequence[str]], str]:
    """What picks one of so many texts: that with the highest mean sentence BLEU to the others, the first of equals.

    So DiffuSeq (arXiv 2210.08933) and its successors choose, by minimum Bayes risk with BLEU as the gain. BLEU is
    sacrebleu's, of the orders that the text has. Two candidates agree with each other equally: the first is taken.
    Raises ConfigError below 1 candidate, and where sacrebleu is missing and needed.
    """
    if candidates < 1:
        raise ConfigError(f"mbr is {candidates}; choose among at least 1 candidate, such as 10")
    if candidates < 3:
        return lambda texts: texts[0]
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ConfigError("mbr needs sacrebleu, which is not installed: pip install 'textcosm[eval]'") from error
    bleu = BLEU(effective_order=True)

    def agreement(texts: Sequence[str], own: int) -> float:
        # The sum, not the mean: both have the same greatest.
        return sum(bleu.sentence_score(texts[own], [text]).score for i, text in enumerate(texts) if i != own)

    return lambda texts: texts[max(range(len(texts)), key=lambda own: agreement(texts, own))]
