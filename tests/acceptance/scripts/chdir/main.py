import os
from pathlib import Path

os.makedirs("elsewhere")
os.chdir("elsewhere")
Path("here.txt").write_text(Path("../start.txt").read_text())
