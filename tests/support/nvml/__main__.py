"""A runner on a host with the GPUs of the recording that ``NVML_RECORDING`` names."""

from __future__ import annotations

import os

from rgrid_runner import main, nvml
from support.nvml import recorded

if __name__ == "__main__":
    nvml.connect = lambda: recorded(os.environ["NVML_RECORDING"])
    main.main()
