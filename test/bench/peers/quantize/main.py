"""One quantized model by one peer's tool: main.py TOOL METHOD SOURCE DATA OUT. Prints one line of JSON.

DATA is a folder of .npz samples whose arrays are named after the model's inputs, or '' for methods without data.
"""

import importlib
import json
import os
import resource
import sys
import time


def main():
    tool, method, source, data, out = sys.argv[1:6]
    printed = os.dup(1)
    os.dup2(2, 1)  # the tools print what they like
    start = time.monotonic()
    importlib.import_module("by_" + tool).quantize(method, source, data, out)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    os.write(printed, (json.dumps({"seconds": seconds, "peakRssBytes": peak}) + "\n").encode())


main()
