"""The diffusion room: from noise to normalised latents, and the training that makes it possible."""

from textcosm.diffusion.denoiser import Denoiser, DenoiserConfig, Memory
from textcosm.diffusion.objective import DiffusionObjectiveConfig, diffusion_loss
from textcosm.diffusion.process import Point, ReverseProcess
from textcosm.diffusion.sampling import SamplerConfig, seeds_of, trajectory
from textcosm.diffusion.schedule import TanSchedule
from textcosm.diffusion.solvers import SOLVERS, Solver, open_solver

__all__ = [
    "SOLVERS",
    "Denoiser",
    "DenoiserConfig",
    "DiffusionObjectiveConfig",
    "Memory",
    "Point",
    "ReverseProcess",
    "SamplerConfig",
    "Solver",
    "TanSchedule",
    "diffusion_loss",
    "open_solver",
    "seeds_of",
    "trajectory",
]
