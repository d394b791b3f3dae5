"""The tasks by name: which fields hold a source and its answers, and what judges an answer."""

from dataclasses import dataclass

from textcosm.errors import ConfigError

SEPARATOR = " | "
"""Between the parts of a source of several fields: a sign that every vocabulary has."""
ANSWERS = ("bleu", "rouge1", "rouge2", "rougeL", "bertscore")
"""Metrics of a text beside its references."""
UNCONDITIONAL = ("perplexity", "diversity", "memorisation")


@dataclass(frozen=True)
class NamedTask:
    """A format of data, and how it is judged.

    sources: fields that make a source, joined by SEPARATOR: the first of these that a record has whole; none for a task
        of texts alone. targets: fields of a text, or of a list of accepted ones; the first that a record has.
    metrics: names of the evaluation's metrics.
    length: tokens that nearly every text of the task stays within.
    """

    sentence: str
    length: int
    sources: tuple[tuple[str, ...], ...] = ()
    targets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = UNCONDITIONAL

    @property
    def is_paired(self) -> bool:
        """Whether its texts answer a source."""
        return bool(self.sources)


TASKS: dict[str, NamedTask] = {
    "stories": NamedTask("New stories of five sentences, as ROCStories are.", 80),
    "wikipedia": NamedTask("New texts of an encyclopedia, each cut at the model's length.", 128),
    "question-generation": NamedTask(
        "The question that a given answer in a given context is for (fields context, answer, question).",
        48,
        (("answer", "context"),),  # the answer first: where a source is too long, the end of the context is cut
        ("question",),
        ANSWERS,
    ),
    "summarisation": NamedTask(
        "A text in a sentence (fields source and target, or document and summary as in XSum).",
        80,
        (("source",), ("document",)),
        ("target", "targets", "summary"),
        ANSWERS,
    ),
    "detoxification": NamedTask(
        "The same said politely (fields source and targets, as in ParaDetox: several answers may be right).",
        32,
        (("source",), ("en_toxic_comment",)),
        ("targets", "target", "en_neutral_comment"),
        ("bleu", "style_accuracy", "similarity", "fluency", "joint"),
    ),
}


def named_task(name: str) -> NamedTask:
    """The task of that name; ConfigError lists those there are."""
    if name not in TASKS:
        raise ConfigError(f"there is no task {name!r}; choose one of {', '.join(TASKS)}")
    return TASKS[name]
