import argparse

parser = argparse.ArgumentParser(prog="tool", description="A tool of its own.")
parser.add_argument("-n", "--number", type=int, default=3)
parser.add_argument("--name")
parser.add_argument("--epochs", type=int)
print(parser.parse_args())
