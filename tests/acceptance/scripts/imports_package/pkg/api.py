from . import core
from .deep import leaf as _leaf


def name():
    return core.NAME + _leaf.leaf()
