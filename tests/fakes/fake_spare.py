"""A fake worker that is kept ready: ``python fake_spare.py [options]``. It is told its spec on standard input."""

import json
import os
import runpy
import sys
from pathlib import Path

line = sys.stdin.readline()
if line:
    order = json.loads(line)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv += ["--spec", order["spec"]]
    runpy.run_path(str(Path(__file__).with_name("fake_worker.py")), run_name="__main__")
