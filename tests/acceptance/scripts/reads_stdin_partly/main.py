import sys

print(sys.stdin.readline().strip())
sys.exit(0)
