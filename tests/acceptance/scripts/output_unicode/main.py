import sys

print("Grüße, 世界, 🚀, ﷽", sys.stdout.encoding)
print("no newline at the end", end="")
