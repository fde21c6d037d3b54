import { OnnxError } from '../errors.ts';
import type { OnnxModel } from '../model.ts';

/** Of the standard operators: the oldest whose rules are those of today in outline, and the newest known here (ONNX 1.23). */
const oldest = 5;
const newest = 28;

/** @throws {OnnxError} `onnx/opset` */
export function checkOpset(model: OnnxModel): void {
  const version = model.opset.get('');
  if (version === undefined) return;
  if (version > newest)
    throw new OnnxError('onnx/opset', `the model uses opset ${version}: ${newest} is the newest known`, {
      hint: `export it with opset ${newest} or lower`,
    });
  if (version < oldest)
    throw new OnnxError('onnx/opset', `the model uses opset ${version}: ${oldest} is the oldest supported`, {
      hint: "convert it with onnx's version converter, or export it again",
    });
}
