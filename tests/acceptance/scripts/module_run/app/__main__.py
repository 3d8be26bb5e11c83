from .work import run

print(run(), __name__, __package__)
