from pathlib import Path

Path("all_bytes.bin").write_bytes(bytes(range(256)) * 4096)
Path("zeros.bin").write_bytes(b"\0" * 100_000)
Path("nul_first").write_bytes(b"\0text")
