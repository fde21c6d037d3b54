import type { Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { DataInput } from './data-set.ts';

/** The input that pictures or windows of sound fill: the named one, or the first of float32. */
export function filledInput(inputs: readonly DataInput[], name: string | undefined, where: string): DataInput {
  const found = inputs.find((input) => (name === undefined ? input.dtype === 'float32' : input.name === name));
  if (found) return found;
  const names = inputs.map((input) => input.name).join(', ');
  const message =
    name === undefined ? `no input of float32 among ${names}` : `the model has no input ${name}; it has ${names}`;
  throw new CompilerError('compiler/preprocess', message, { where });
}

/**
 * The other inputs (a state, a sampling rate): each filled with the number that the preprocess file gives, free
 * dimensions 1.
 * @throws {CompilerError} `compiler/preprocess` where one has no number, or a number no input
 */
export function constantInputs(
  inputs: readonly DataInput[],
  filled: DataInput,
  constants: { readonly [name: string]: number },
  where: string,
): Tensors {
  const others = inputs.filter(({ name }) => name !== filled.name);
  const stray = Object.keys(constants).find((name) => !others.some((input) => input.name === name));
  if (stray !== undefined)
    throw new CompilerError('compiler/preprocess', `constants: the model has no other input ${stray}`, { where });
  return Object.fromEntries(
    others.map((input) => {
      const value = Object.hasOwn(constants, input.name) ? constants[input.name] : undefined;
      if (value === undefined) {
        const hint = `write constants: { ${input.name}: 0 } into the preprocess file`;
        throw new CompilerError('compiler/preprocess', `nothing fills the input ${input.name}`, { where, hint });
      }
      return [input.name, constant(input, value, where)];
    }),
  );
}

function constant({ name, dtype, dims: wanted }: DataInput, value: number, where: string): TensorValue {
  const dims = wanted.map((dim) => (typeof dim === 'number' ? dim : 1));
  const length = dims.reduce((a, b) => a * b, 1);
  if (dtype === 'float32') return { dtype, dims, data: new Float32Array(length).fill(value) };
  if (dtype === 'int32') return { dtype, dims, data: new Int32Array(length).fill(value) };
  if (dtype === 'int64') return { dtype, dims, data: new BigInt64Array(length).fill(BigInt(Math.round(value))) };
  throw new CompilerError('compiler/preprocess', `the input ${name} is ${dtype}, which constants cannot fill`, {
    where,
  });
}
