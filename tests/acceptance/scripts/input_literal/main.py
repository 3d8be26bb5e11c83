import json
from pathlib import Path

config = json.loads(Path("config.json").read_text())
words = (Path(__file__).parent / "data" / "words.txt").read_text().split()
with open("data/words.txt") as file:
    assert file.read().split() == words
print(config["greeting"], words)
