import sys
from pathlib import Path

import sibling

print(sys.argv[0], Path(__file__).parent.name, Path(sys.path[0]).name)
print(sibling.WORD, Path("top.txt").read_text().strip())
Path("made_at_top.txt").write_text("top")
(Path(__file__).parent / "made_beside.txt").write_text("beside")
