"""One quantized model by one peer's tool: quantize.py TOOL METHOD SOURCE DATA OUT. Prints one line of JSON.

DATA is a folder of .npz samples whose arrays are named after the model's inputs, or '' for methods without data.
"""

import glob
import json
import os
import resource
import sys
import time

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


def ort(method, source, data, out):
    """ONNX Runtime's own quantizer, after its own pre-processing."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = out + ".ready.onnx"
    source = raised(source, out + ".raised.onnx")
    try:
        quant_pre_process(source, ready)
    except Exception:  # symbolic shape inference fails on some of these: its documentation then says to skip it
        quant_pre_process(source, ready, skip_symbolic_shape=True)
    if method == "dynamic":
        quantize_dynamic(ready, out, per_channel=True, weight_type=QuantType.QInt8)
    else:
        ways = {
            "static-minmax": CalibrationMethod.MinMax,
            "static-percentile": CalibrationMethod.Percentile,
            "static-entropy": CalibrationMethod.Entropy,
        }
        # reduce_range: what its documentation asks for on x86 without VNNI.
        quantize_static(
            ready,
            out,
            reader(data),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not has_vnni(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=ways[method],
        )
    os.remove(ready)


def ort_nbits(method, source, data, out):
    """MatMulNBits, int8 activations, block 32."""
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits
    import onnx

    model = onnx.load(source)
    options = {"block_size": 32, "is_symmetric": False, "accuracy_level": 4}
    if method == "hqq":
        config = nbits.HQQWeightOnlyQuantConfig(block_size=32, bits=4)
        quantizer = nbits.MatMulNBitsQuantizer(model, algo_config=config, **options)
    elif method == "rtn":
        quantizer = nbits.MatMulNBitsQuantizer(model, **options)
    else:
        raise ValueError(method)
    quantizer.process()
    quantizer.model.save_model_to_file(out)


def olive(method, source, data, out):
    """Olive's passes for the CPU."""
    from olive.data.config import DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxDynamicQuantization, OnnxStaticQuantization

    folder = out + ".olive"
    source = raised(source, out + ".raised.onnx")
    if method == "dynamic":
        task = create_pass_from_dict(OnnxDynamicQuantization, {"per_channel": True}, disable_search=True)
    else:
        Registry.register_dataset("samples")(lambda **_: Pairs(data))
        Registry.register_dataloader("each")(lambda dataset, **_: dataset)
        calibration = DataConfig(
            name="calibration",
            type="DataContainer",
            load_dataset_config={"type": "samples"},
            pre_process_data_config={"type": "skip_pre_process"},
            post_process_data_config={"type": "skip_post_process"},
            dataloader_config={"type": "each"},
        )
        task = create_pass_from_dict(
            OnnxStaticQuantization,
            {"data_config": calibration, "per_channel": True, "quant_format": "QDQ", "calibration_providers": ["CPUExecutionProvider"]},
            disable_search=True,
        )
    made = task.run(ONNXModelHandler(source), folder)
    os.replace(made.model_path, out)


class Pairs:
    """Inputs with no label, as Olive wants them."""

    def __init__(self, folder):
        self.samples = Samples(folder).all()

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index], None

    def __iter__(self):
        return ((sample, None) for sample in self.samples)


def aimet(method, source, data, out):
    """AIMET's post-training quantization, exported as QDQ."""
    import aimet_onnx
    import onnx

    samples = Samples(data).all()
    model = onnx.load(source)
    simulation = aimet_onnx.QuantizationSimModel(
        model, param_type=aimet_onnx.int8, activation_type=aimet_onnx.int8, providers=["CPUExecutionProvider"]
    )
    if method == "adaround":
        aimet_onnx.apply_adaround(simulation, samples, num_iterations=1000)
    simulation.compute_encodings(samples)
    onnx.save(simulation.to_onnx_qdq(), out)


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


def reader(folder):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(Samples, CalibrationDataReader):
        pass

    return Reader(folder)


def has_vnni():
    with open("/proc/cpuinfo", encoding="utf-8") as text:
        return "vnni" in text.read()


def main():
    tool, method, source, data, out = sys.argv[1:6]
    tools = {"onnxruntime": ort, "onnxruntime-nbits": ort_nbits, "olive": olive, "aimet": aimet}
    printed = os.dup(1)
    os.dup2(2, 1)  # the tools print what they like
    start = time.monotonic()
    tools[tool](method, source, data, out)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    os.write(printed, (json.dumps({"seconds": seconds, "peakRssBytes": peak}) + "\n").encode())


main()
