"""A classifier of texts: any Hugging Face sequence classifier, asked for the probability of one of its labels."""

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch

from textcosm.errors import ConfigError

BATCH = 32


class Classifier:
    """The probability that a text has the label of index ``label``."""

    def __init__(self, name: str, model: Any, tokenizer: Any, label: int):
        self.name, self.model, self.tokenizer, self.label = name, model.eval(), tokenizer, label
        # Two fewer than there are positions: RoBERTa's table of positions begins after its padding index.
        self.max_tokens = min(tokenizer.model_max_length, model.config.max_position_embeddings - 2)
        # Labels that do not exclude one another (several kinds of toxicity), or a single one, have a sigmoid each.
        self.several = model.config.problem_type == "multi_label_classification" or model.config.num_labels == 1

    @torch.inference_mode()
    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        """(texts,) float64, from 0 to 1; texts past ``max_tokens`` are cut."""
        size = BATCH if self.tokenizer.pad_token is not None else 1
        found = [np.empty(0)]
        for start in range(0, len(texts), size):
            batch = self.tokenizer(
                list(texts[start : start + size]),
                padding=size > 1,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
            logits = self.model(**batch.to(self.model.device)).logits.double()
            chances = logits.sigmoid() if self.several else logits.softmax(dim=-1)
            found.append(chances[:, self.label].cpu().numpy())
        return np.concatenate(found)


def open_classifier(
    name: str, meaning: Sequence[str], label: str | None = None, device: str | torch.device = "cpu"
) -> Classifier:
    """Open a classifier from a folder or by its hub name; nothing is downloaded when the hub is offline.

    Its label is the one called ``label``, else the only one called by one of the words in ``meaning`` (case ignored).
    Labels without a telling name (``LABEL_1``) are not guessed at: published classifiers number them either way.

    Raises ConfigError, with the remedy, where the classifier is not there, is not whole, or has no such label.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"classifier {name!r} needs transformers, which is not installed: pip install 'textcosm[eval]'"
        ) from error
    place = str(Path(name).expanduser()) if Path(name).expanduser().is_dir() else name
    try:
        with redirect_stderr(io.StringIO()):  # its progress bars would tear a live view apart; errors still raise
            tokenizer = transformers.AutoTokenizer.from_pretrained(place)
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                place, dtype=torch.float32, output_loading_info=True
            )
    except Exception as error:  # readers of weights, of JSON and of the hub each raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"cannot open classifier {name!r} ({reason}): give a model folder or a hub name") from error
    missing = sorted(report["missing_keys"])
    if missing:  # they were drawn at random
        raise ConfigError(
            f"classifier {name!r} lacks {len(missing)} weights, first {missing[0]!r}: give a sequence classifier, whole"
        )
    return Classifier(name, model.to(torch.device(device)), tokenizer, _label(name, model.config.id2label, meaning, label))


def _label(name: str, labels: dict[int, str], meaning: Sequence[str], label: str | None) -> int:
    wanted = {word.casefold() for word in ([label] if label is not None else meaning)}
    found = [index for index, called in labels.items() if str(called).casefold() in wanted]
    if len(found) != 1:
        raise ConfigError(
            f"classifier {name!r} has the labels {', '.join(map(str, labels.values()))} and {len(found)} of them is called "
            f"{' or '.join(sorted(wanted))}: name the label to use"
        )
    return found[0]
