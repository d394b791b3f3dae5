"""One frozen tree of every setting of a model, composed of the rooms' own configs, and its way to JSON and back."""

import types
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from textcosm.diffusion.denoiser import DenoiserConfig, SourceConfig
from textcosm.diffusion.objective import DiffusionObjectiveConfig
from textcosm.diffusion.sampling import SamplerConfig
from textcosm.diffusion.schedule import TanSchedule
from textcosm.errors import ConfigError
from textcosm.latent.autoencoder import AutoencoderConfig
from textcosm.latent.normaliser import NormaliserConfig
from textcosm.latent.objective import AutoencoderObjectiveConfig
from textcosm.latent.perturb import PerturbationConfig
from textcosm.text.backbone import BackboneConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Config:
    """Everything that makes one model another model; what trains it is in a Recipe."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    perturbation: PerturbationConfig = field(default_factory=PerturbationConfig)
    autoencoder_objective: AutoencoderObjectiveConfig = field(default_factory=AutoencoderObjectiveConfig)
    normaliser: NormaliserConfig = field(default_factory=NormaliserConfig)
    schedule: TanSchedule = field(default_factory=TanSchedule)
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    source: SourceConfig = field(default_factory=SourceConfig)
    diffusion_objective: DiffusionObjectiveConfig = field(default_factory=DiffusionObjectiveConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Config":
        """The inverse of :meth:`to_dict`; fields left out keep their defaults, unknown ones are a ConfigError."""
        return from_dict(cls, values)


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Build a (nested) dataclass from plain JSON values, strictly: unknown fields and wrong types name themselves."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or 'the configuration'} is {values!r}; give a table of fields")
    hints = get_type_hints(kind)
    known = {f.name for f in fields(kind) if f.init}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"unknown setting {_dot(where, name)!r}; there are {', '.join(sorted(known))}")
    return kind(**{name: _read(hints[name], value, _dot(where, name)) for name, value in values.items()})


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str = "") -> list[str]:
    """The dotted names at which two nested tables of settings differ, in our order."""
    found: list[str] = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, _dot(where, name))
        elif _plain(a) != _plain(b) or (name in ours) != (name in theirs):
            found.append(_dot(where, name))
    return found


def _plain(value: Any) -> Any:
    """JSON turns tuples into lists: they mean the same."""
    return list(value) if isinstance(value, tuple) else value


def _dot(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _read(kind: Any, value: Any, where: str) -> Any:
    """``value`` as ``kind``: a dataclass, a tuple, a literal, an optional or a plain scalar."""
    origin = get_origin(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return from_dict(kind, value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        options = [option for option in get_args(kind) if option is not type(None)]
        return _read(options[0], value, where) if len(options) == 1 else value
    if origin is Literal:
        return _checked(value in get_args(kind), value, where, "one of " + ", ".join(map(repr, get_args(kind))))
    if origin is tuple:
        _checked(isinstance(value, list | tuple), value, where, "a list")
        inner = get_args(kind)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        _checked(len(kinds) == len(value), value, where, f"a list of {len(kinds)}")
        return tuple(_read(k, v, where) for k, v in zip(kinds, value, strict=True))
    if kind is float:
        return float(_checked(isinstance(value, int | float) and not isinstance(value, bool), value, where, "a number"))
    if kind is int:
        return _checked(isinstance(value, int) and not isinstance(value, bool), value, where, "a whole number")
    if kind in (bool, str):
        return _checked(isinstance(value, kind), value, where, "true or false" if kind is bool else "a string")
    return value


def _checked(good: bool, value: T, where: str, wanted: str) -> T:
    if not good:
        raise ConfigError(f"{where} is {value!r}; it must be {wanted}")
    return value
