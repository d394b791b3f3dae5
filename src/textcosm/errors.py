"""Every error that textcosm raises on purpose; each message names the value, the limit and the remedy."""


class TextcosmError(Exception):
    """The root of the tree: catch this to catch them all."""


class ConfigError(TextcosmError):
    """A setting or an argument is out of range, or two of them disagree."""


class DataError(TextcosmError):
    """A file or a text cannot be used as given."""


class BackboneError(TextcosmError):
    """A text encoder is missing, or is not the one that a model was trained with."""


class CheckpointError(TextcosmError):
    """A model directory is missing, incomplete, altered or of another version."""


class TrainingError(TextcosmError):
    """A training run cannot go on (not-a-number loss, a run directory of other settings)."""
