import sys

for number in range(64):
    sys.stdout.buffer.write(bytes((number + offset) % 256 for offset in range(16384)))
sys.stderr.buffer.write(b"\xff\xfe not utf-8 \x00\n")
