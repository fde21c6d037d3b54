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
    if method == "adaround":
        aimet_onnx.apply_adaround(simulation, samples, num_iterations=1000)
    simulation.compute_encodings(samples)
    onnx.save(simulation.to_onnx_qdq(), out)
