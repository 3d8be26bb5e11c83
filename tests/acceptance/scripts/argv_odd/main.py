import sys

for number, argument in enumerate(sys.argv):
    print(number, ascii(argument))
