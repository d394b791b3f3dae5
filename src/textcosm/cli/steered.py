"""What rewrite, infill and continue share: texts are given, a model writes near to them, and its texts are written."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textcosm.cli.given import given_texts
from textcosm.cli.options import Device, Length, LmWeight, Model, Refinements, Seed, Solver, Steps, TextField, length_of
from textcosm.cli.written import Form, Out
from textcosm.errors import DataError

if TYPE_CHECKING:
    from textcosm.pipeline import Sampling, TextDiffusion


@dataclass(frozen=True)
class Asked:
    """The options of all three."""

    length: Length = None
    model: Model = "stories-16"
    steps: Steps = None
    solver: Solver = None
    refine: Refinements = None
    lm_weight: LmWeight = None
    seed: Seed = 0
    form: Form = "text"
    out: Out = None
    text_field: TextField = None
    device: Device = None

    def texts(self, given: tuple[str, ...]) -> list[str]:
        """The given texts; DataError where there are none."""
        from textcosm.tasks.files import read_texts

        texts = given_texts(given, lambda file: read_texts(file, self.text_field))
        if not texts:
            raise DataError(f"{' '.join(given)} holds no texts; give at least one")
        return texts

    def open(self) -> "TextDiffusion":
        """The model."""
        from textcosm.pipeline import TextDiffusion

        return TextDiffusion.load(self.model, self.device)

    @property
    def sampling(self) -> "Sampling":
        """How it is to sample."""
        return {
            "length": length_of(self.length),
            "steps": self.steps,
            "solver": self.solver,
            "refine": self.refine,
            "lm_weight": self.lm_weight,
            "seed": self.seed,
        }
