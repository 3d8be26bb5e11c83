import mmap
import sys

with open(sys.argv[1], "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
    view[0:5] = b"HELLO"
with open("sparse.bin", "wb") as file:
    file.seek(1_000_000)
    file.write(b"end")
