import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { decodeNpz, RuntimeError, type Tensors, type TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import { checkInputs } from './check-inputs.ts';
import type { DataInput, DataSet, Sample } from './data-set.ts';

/** One `.npz` (arrays named like the model's inputs, and `label…`) or `.npy` (the one input) a sample. */
export function arrayData(path: string, files: readonly string[], inputs: readonly DataInput[]): DataSet {
  return {
    kind: 'tensor',
    path,
    length: files.length,
    async *samples() {
      for (const file of files) yield await readSample(file, inputs);
    },
  };
}

async function readSample(file: string, inputs: readonly DataInput[]): Promise<Sample> {
  const arrays = await readArrays(file);
  const feeds: { [name: string]: TensorValue } = {};
  const labels: { [name: string]: TensorValue } = {};
  for (const [name, array] of Object.entries(arrays)) {
    if (name === '' && inputs.length === 1 && inputs[0]) feeds[inputs[0].name] = array;
    else if (name.startsWith('label') && !inputs.some((input) => input.name === name)) labels[name] = array;
    else feeds[name] = array;
  }
  checkInputs(feeds, inputs, file);
  const all = Object.values(labels);
  return { name: basename(file), inputs: feeds, label: all.length > 1 ? labels : all[0] };
}

async function readArrays(file: string): Promise<Tensors> {
  try {
    return decodeNpz(await readFile(file));
  } catch (cause) {
    if (!(cause instanceof RuntimeError)) throw cause;
    throw new CompilerError('compiler/data', `${file}: ${cause.message}`, { where: file, cause });
  }
}
