import os
import sys
from pathlib import Path

here = Path(__file__)
print("file", here.name, here.is_absolute(), here.parent == Path.cwd())
print("path0", Path(sys.path[0]) == here.parent)
print("argv0", sys.argv[0])
print("name", __name__, "package", __package__)
print("pwd matches", os.environ.get("PWD") in (None, os.getcwd()))
