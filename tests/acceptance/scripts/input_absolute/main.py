import sys

with open(sys.argv[1]) as file:
    print(file.read().strip())
print(len(sys.argv[1]) > 0, sys.argv[1].endswith("in put.txt"))
