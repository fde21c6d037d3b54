import type { Tensors, TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { DataInput } from './data-set.ts';

/**
 * Compares a sample with the model's inputs, name by name, so that the first wrong one is named and not the engine's
 * complaint about it.
 * @throws {CompilerError} `compiler/data`
 */
export function checkInputs(feeds: Tensors, inputs: readonly DataInput[], where: string): void {
  const fail = (what: string): never => {
    throw new CompilerError('compiler/data', `${where}: ${what}`, { where });
  };
  const given = new Map(Object.entries(feeds));
  for (const { name, dtype, dims } of inputs) {
    const tensor = given.get(name);
    if (!tensor) return fail(`no array ${name}; there are ${[...given.keys()].join(', ') || 'none'}`);
    if (tensor.dtype !== dtype) fail(`${name} is ${tensor.dtype}, the model takes ${dtype}`);
    if (!fits(tensor.dims, dims)) fail(`${name} is [${tensor.dims.join(', ')}], the model takes [${dims.join(', ')}]`);
    const bad = firstNotFinite(tensor);
    if (bad !== undefined) fail(`${name}[${bad}] is not a finite number`);
    given.delete(name);
  }
  for (const name of given.keys()) fail(`the model has no input ${name}`);
}

function fits(dims: readonly number[], wanted: readonly (number | string)[]): boolean {
  return dims.length === wanted.length && dims.every((dim, i) => typeof wanted[i] === 'string' || wanted[i] === dim);
}

function firstNotFinite(tensor: TensorValue): number | undefined {
  if (tensor.dtype !== 'float32' && tensor.dtype !== 'float64') return undefined;
  const index = tensor.data.findIndex((value) => !Number.isFinite(value));
  return index < 0 ? undefined : index;
}
