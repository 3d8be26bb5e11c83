import os
from pathlib import Path

Path("tool.sh").write_text("#!/bin/sh\necho hi\n")
os.chmod("tool.sh", 0o755)
Path("private.txt").write_text("x")
os.chmod("private.txt", 0o600)
Path("d").mkdir()
Path("d/target.txt").write_text("target\n")
os.symlink("target.txt", "d/link.txt")
os.symlink("d", "dirlink")
