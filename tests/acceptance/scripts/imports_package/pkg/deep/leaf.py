from ..core import NAME


def leaf():
    return NAME[::-1]
