import importlib

lazy = importlib.import_module("lazy_one")
VALUE = lazy.X
