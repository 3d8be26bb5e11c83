import sys

with open(sys.argv[1], "r+b") as file:
    file.write(b"XX")
