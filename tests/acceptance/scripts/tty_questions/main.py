import os
import shutil
import sys

print(sys.stdin.isatty(), sys.stdout.isatty(), sys.stderr.isatty())
print(shutil.get_terminal_size(fallback=(80, 24)))
try:
    os.open("/dev/tty", os.O_RDWR)
    print("has a terminal")
except OSError:
    print("no terminal")
