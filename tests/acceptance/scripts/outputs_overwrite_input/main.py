import sys
from pathlib import Path

path = Path(sys.argv[1])
path.write_text(path.read_text().upper())
