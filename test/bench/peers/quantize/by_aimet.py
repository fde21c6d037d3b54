"""AIMET's post-training quantization."""

from source import Samples


def quantize(method, source, data, out):
    """AIMET's post-training quantization, exported as QDQ."""
    import aimet_onnx
    import onnx

    samples = Samples(data).all()
    model = onnx.load(source)
    simulation = aimet_onnx.QuantizationSimModel(
        model, param_type=aimet_onnx.int8, activation_type=aimet_onnx.int8, providers=["CPUExecutionProvider"]
    )
    simulation.compute_encodings(samples)
    onnx.save(simulation.to_onnx_qdq(prequantize_constants=True), out)
