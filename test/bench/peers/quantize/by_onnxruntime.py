"""ONNX Runtime's own quantizers: static and dynamic int8, MatMulNBits at 4 bits."""

import os

from source import Samples, has_vnni, raised


def quantize(method, source, data, out):
    if method in ("nbits-rtn", "nbits-hqq"):
        nbits(method, source, out)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # Its own pre-processing, as its documentation says.
    ready = out + ".ready.onnx"
    source = raised(source, out + ".raised.onnx")
    try:
        quant_pre_process(source, ready)
    except Exception:  # symbolic shape inference fails on some of these: the documentation then says to skip it
        quant_pre_process(source, ready, skip_symbolic_shape=True)
    if method == "dynamic":
        quantize_dynamic(ready, out, per_channel=True, reduce_range=not has_vnni(), weight_type=QuantType.QInt8)
    else:
        static(method, ready, data, out)
    os.remove(ready)


def static(method, ready, data, out):
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

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


def nbits(method, source, out):
    """MatMulNBits, int8 activations, block 32."""
    from onnxruntime.quantization import matmul_nbits_quantizer as nbits
    import onnx

    options = {"block_size": 32, "is_symmetric": False, "accuracy_level": 4}
    if method == "nbits-hqq":
        options["algo_config"] = nbits.HQQWeightOnlyQuantConfig(block_size=32, bits=4)
    quantizer = nbits.MatMulNBitsQuantizer(onnx.load(source), **options)
    quantizer.process()
    quantizer.model.save_model_to_file(out)


def reader(folder):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(Samples, CalibrationDataReader):
        pass

    return Reader(folder)
