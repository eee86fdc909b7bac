"""Methods by name, and how one is built from the settings of a configuration."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from ipfl.errors import ConfigError
from ipfl.methods.base import Federation, Method
from ipfl.methods.cfl import CFL
from ipfl.methods.ditto import Ditto
from ipfl.methods.fedamp import FedAMP
from ipfl.methods.fedavg import FedAvg
from ipfl.methods.fedfomo import FedFomo
from ipfl.methods.fedprox import FedProx
from ipfl.methods.ipfl import Ipfl
from ipfl.methods.local import Local
from ipfl.methods.pfedgraph import PFedGraph

MethodClass = Callable[..., Method]

METHODS: dict[str, MethodClass] = {
    "local": Local,
    "fedavg": FedAvg,
    "fedprox": FedProx,
    "cfl": CFL,
    "ditto": Ditto,
    "fedamp": FedAMP,
    "fedfomo": FedFomo,
    "pfedgraph": PFedGraph,
    "ipfl": Ipfl,
}
"""Every method by name, in the order of tables: the baselines of the paper, then iPFL."""

WITH_A_MARKET = ("ipfl",)
"""Methods whose graph and payments are the market's own; the others are billed for the graph they used."""

WITH_CANDIDATES = ("ipfl", "local")
"""Methods that do with the distances of a few pairs, market.candidates > 0."""


def find_method(name: str) -> MethodClass:
    """The method called `name`.

    Raises:
      ConfigError: there is none of that name.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(METHODS)}"
        raise ConfigError(f"unknown method {name!r}; {hint}")
    return METHODS[name]


def build_method(name: str, federation: Federation, settings: Mapping[str, Any]) -> Method:
    """The method called `name` with its hyper-parameters set.

    Raises:
      ConfigError: an unknown method or hyper-parameter, a value of another type or out of range, or a method
        that cannot do this (too few participants).
    """
    kind = find_method(name)
    if federation.market.candidates and name not in WITH_CANDIDATES:
        raise ConfigError(
            f"method {name} needs the distance of every pair, and market.candidates = "
            f"{federation.market.candidates}: set it to 0, or choose {' or '.join(WITH_CANDIDATES)}"
        )
    known = hyper_parameters(kind)
    given = {}
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            names = ", ".join(known) or "none"
            hint = f"did you mean {near[0]!r}?" if near else f"its settings: {names}"
            raise ConfigError(f"methods.{name}: unknown setting {key!r}; {hint}")
        wanted = known[key][0]
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted:
            raise ConfigError(f"methods.{name}.{key} = {value!r}: expected {wanted.__name__}")
        given[key] = value
    return kind(federation, **given)


def hyper_parameters(kind: MethodClass) -> dict[str, tuple[type, Any]]:
    """Type and default of every hyper-parameter of a method.

    >>> hyper_parameters(FedProx)
    {'mu': (<class 'float'>, 0.01)}
    """
    hints = get_type_hints(kind)
    fields: dict[str, Any] = getattr(kind, "__dataclass_fields__", {})  # a method need not be a dataclass
    return {
        field.name: (hints[field.name], field.default)
        for field in fields.values()
        if field.name != "federation"
    }
