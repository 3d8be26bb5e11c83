import hashlib
from pathlib import Path

block = bytes(range(256)) * 4096
digest = hashlib.sha256()
with Path("big.bin").open("wb") as file:
    for number in range(24):
        piece = number.to_bytes(4, "big") + block
        digest.update(piece)
        file.write(piece)
print(digest.hexdigest())
