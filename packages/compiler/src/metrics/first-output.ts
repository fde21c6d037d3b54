import type { Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';

/** The first float32 output: what a classifier or recogniser answers with. */
export function firstFloats(outputs: Tensors): TensorValue & { readonly dtype: 'float32' } {
  for (const output of Object.values(outputs)) if (output.dtype === 'float32') return output;
  throw new CompilerError('compiler/metric', 'the model has no float32 output to judge by');
}
