from pathlib import Path

for year in (2024, 2025):
    for month in ("01", "02"):
        place = Path("out") / str(year) / month
        place.mkdir(parents=True, exist_ok=True)
        (place / "data.txt").write_text(f"{year}-{month}\n")
Path("out/2024/empty_dir").mkdir()
Path("out/empty.txt").touch()
