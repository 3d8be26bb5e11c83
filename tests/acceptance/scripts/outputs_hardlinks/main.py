import os
from pathlib import Path

Path("one.txt").write_text("same bytes\n")
os.link("one.txt", "two.txt")
