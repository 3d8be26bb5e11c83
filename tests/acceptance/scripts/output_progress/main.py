import sys

for percent in range(0, 101, 5):
    print(f"\r{percent:3d}% [{'#' * (percent // 5):<20}]", end="", flush=True)
print()
print("\x1b[32mgreen\x1b[0m \x07 bell", file=sys.stderr)
