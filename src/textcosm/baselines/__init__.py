"""The rivals: other ways to write texts from the same tokens, with the same data, parameters and training."""

from textcosm.baselines.rival import Rival, open_rival, open_subject

__all__ = ["Rival", "open_rival", "open_subject"]
