"""Modules that SNN libraries import for things no test needs, and that are too large to install for that."""

import sys
import types


def stand_in(name: str, **attributes: object) -> None:
    """Put an empty module in the place of one that is not installed."""
    try:
        __import__(name)
    except ImportError:
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module


def for_sinabs() -> None:
    """It imports matplotlib's pylab for one plot."""
    stand_in("pylab")


def for_spikingjelly_models() -> None:
    """Its model zoo imports torchvision for the downloads of weights."""
    stand_in("torchvision")
    stand_in("torchvision.models")
    stand_in("torchvision.models.utils", load_state_dict_from_url=None)
