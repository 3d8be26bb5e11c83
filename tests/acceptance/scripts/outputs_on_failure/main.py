from pathlib import Path

Path("partial.txt").write_text("half\n")
raise ValueError("after writing")
