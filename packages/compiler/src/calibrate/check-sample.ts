import type { ValueInfo } from '@flotilla/onnx';
import type { Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';

/**
 * That a sample is what the model takes: every input there, of its type and shape, no NaN (infinity may be a mask).
 * @throws {CompilerError} `compiler/calibration`, naming the sample and the input
 */
export function checkSample(sample: Tensors, inputs: readonly ValueInfo[], index: number): void {
  for (const { name, type } of inputs) {
    const tensor = sample[name];
    if (!tensor) refuse(index, `has no input "${name}"`);
    if (!type) continue;
    if (tensor.dtype !== type.dtype) refuse(index, `gives ${name} as ${tensor.dtype}, the model takes ${type.dtype}`);
    const { dims } = type;
    const fits =
      !dims ||
      (tensor.dims.length === dims.length &&
        dims.every((dim, axis) => typeof dim !== 'number' || dim < 0 || dim === tensor.dims[axis]));
    if (!fits) refuse(index, `gives ${name} as [${tensor.dims.join(', ')}], the model takes [${dims.join(', ')}]`);
    checkNotNan(tensor, name, index);
  }
}

function checkNotNan(tensor: TensorValue, name: string, index: number): void {
  if (tensor.dtype !== 'float32' && tensor.dtype !== 'float64') return;
  const at = tensor.data.findIndex(Number.isNaN);
  if (at >= 0) refuse(index, `has NaN in ${name} at ${at}`);
}

function refuse(index: number, what: string): never {
  throw new CompilerError('compiler/calibration', `sample ${index} ${what}`, {
    where: `sample ${index}`,
    hint: 'mend or remove it',
  });
}
