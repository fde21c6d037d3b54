"""What every tool is given: samples and a model that it can take."""

import glob
import os

import numpy as np


class Samples:
    """What every calibrator here reads: one dictionary of arrays a sample, then None."""

    def __init__(self, folder):
        self.paths = sorted(glob.glob(os.path.join(folder, "*.npz")))
        self.rewind()

    def rewind(self):
        self.left = iter(self.paths)

    def get_next(self):
        path = next(self.left, None)
        return None if path is None else dict(np.load(path))

    def all(self):
        return [dict(np.load(path)) for path in self.paths]


def raised(source, path):
    """QDQ with scales per channel is opset 13; a model that cannot be raised is tried as it is."""
    import onnx
    from onnx import version_converter

    model = onnx.load(source)
    if next(one.version for one in model.opset_import if one.domain == "") >= 13:
        return source
    try:
        onnx.save(version_converter.convert_version(model, 13), path)
        return path
    except Exception:
        return source


def has_vnni():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        return "vnni" in text.read()
