from pathlib import Path

names = [
    "with space.txt",
    "quote'single",
    'quote"double',
    "new\nline.txt",
    "tab\there",
    "-leading-dash",
    "--rf",
    "grüße.txt",
    "日本語.txt",
    "e\u0301-combining",
    "back\\slash",
    "$(touch x)",
    "*glob?",
    ".hidden",
    "trailing.",
    "a" * 200,
]
Path("odd").mkdir()
for number, name in enumerate(names):
    (Path("odd") / name).write_text(f"{number}\n", encoding="utf-8")
Path("dir with space ü").mkdir()
Path("dir with space ü/f").write_text("x")
