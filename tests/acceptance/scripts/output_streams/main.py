import logging
import sys
import warnings

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
print("to stdout")
print("to stderr", file=sys.stderr)
logging.info("logged")
warnings.warn("careful", stacklevel=1)
sys.stderr.write("partial")
