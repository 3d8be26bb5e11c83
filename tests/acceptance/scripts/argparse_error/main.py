import argparse

parser = argparse.ArgumentParser(prog="tool")
parser.add_argument("-n", type=int)
parser.parse_args()
