from pathlib import Path

Path("many").mkdir()
for number in range(300):
    (Path("many") / f"{number:04}.txt").write_text(str(number) * (number % 7))
