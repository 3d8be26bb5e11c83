import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--config")
parser.add_argument("--out")
options = parser.parse_args()
print(open(options.config).read().strip())
open(options.out, "w").write("done")
