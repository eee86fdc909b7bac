"""Methods: how participants train and collaborate. One short file each."""

from ipfl.methods.base import Federation, Method, Round
from ipfl.methods.ipfl import Ipfl
from ipfl.methods.local import Local
from ipfl.methods.registry import METHODS, WITH_A_MARKET, build_method, find_method, hyper_parameters

__all__ = [
    "METHODS",
    "WITH_A_MARKET",
    "Federation",
    "Ipfl",
    "Local",
    "Method",
    "Round",
    "build_method",
    "find_method",
    "hyper_parameters",
]
