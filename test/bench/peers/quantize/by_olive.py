"""Olive's passes for the CPU."""

import os

from source import Samples, has_vnni, raised


def quantize(method, source, data, out):
    from olive.data.config import DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxDynamicQuantization, OnnxStaticQuantization

    folder = out + ".olive"
    source = raised(source, out + ".raised.onnx")
    # reduce_range: as ONNX Runtime's documentation asks for on x86 without VNNI.
    common = {"per_channel": True, "reduce_range": not has_vnni()}
    if method == "dynamic":
        task = create_pass_from_dict(OnnxDynamicQuantization, common, disable_search=True)
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
        calibrated = {"data_config": calibration, "quant_format": "QDQ", "calibration_providers": ["CPUExecutionProvider"]}
        task = create_pass_from_dict(OnnxStaticQuantization, common | calibrated, disable_search=True)
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
