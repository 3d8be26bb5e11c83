"""Counts the words of one text.

    python count.py texts/alice.txt

Prints one line and leaves words.csv, the most frequent word first.
"""

import csv
import re
import sys
from collections import Counter
from pathlib import Path

text = Path(sys.argv[1])
words = Counter(re.findall(r"[a-z]+(?:['’][a-z]+)*", text.read_text(encoding="utf-8").lower()))

with open("words.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["word", "count"])
    table.writerows(sorted(words.items(), key=lambda entry: (-entry[1], entry[0])))

longest = max(words, key=lambda word: (len(word), word))
print(f"{text.name}: {words.total()} words, {len(words)} different, the longest is {longest!r}")
