import torch

from textcosm.diffusion.process import ReverseProcess
from textcosm.diffusion.schedule import TanSchedule


def process(schedule=None):
    return ReverseProcess(schedule or TanSchedule(), lambda noisy, time, past: noisy, lambda: torch.zeros(2, 3, 4))


def test_move_keeps_the_noise_and_lowers_its_share():
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    p = process()
    for time, target in ((1.0, 0.7), (0.7, 0.05), (0.3, 0.0), (1.0, 0.0)):
        noisy = p.alpha(time) * clean + p.sigma(time) * noise
        expected = p.alpha(target) * clean + p.sigma(target) * noise
        torch.testing.assert_close(p.move(noisy, clean, time, target), expected)


def test_numbers_of_the_schedule_are_plain():
    p, schedule = process(), TanSchedule()
    for name in ("alpha", "sigma", "beta", "log_snr"):
        value = getattr(p, name)(0.4)
        assert isinstance(value, float) and value == getattr(schedule, name)(0.4).item()
