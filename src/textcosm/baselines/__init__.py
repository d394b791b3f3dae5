"""The rivals: other ways to write texts from the same tokens, with the same data, parameters and training."""

from textcosm.baselines.rival import Rival, is_rival, open_rival, open_subject

__all__ = ["Rival", "is_rival", "open_rival", "open_subject"]
