import os
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    Path(folder, "x").write_text("temporary")
    print(os.listdir(folder))
with tempfile.NamedTemporaryFile("w+", suffix=".txt") as file:
    file.write("abc")
    file.flush()
    print(os.path.getsize(file.name))
print(os.access(tempfile.gettempdir(), os.W_OK))
