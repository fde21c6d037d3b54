import type { TensorValue } from '@flotilla/runtime';
import { CompilerError } from '../errors.ts';
import type { Sample } from '../data/data-set.ts';

/** Class numbers: a number, a list of numbers, or an integer array. */
export function labelNumbers({ label, name }: Sample): readonly number[] {
  if (typeof label === 'number') return [label];
  if (Array.isArray(label) && label.every((item): item is number => typeof item === 'number')) return label;
  if (isTensor(label) && label.dtype !== 'string') return Array.from(label.data, Number);
  throw new CompilerError('compiler/data', `${name} has no label that is a class number`, { where: name });
}

/** A text: a string, a string array of one, or the bytes of UTF-8 as uint8. */
export function labelText({ label, name }: Sample): string {
  if (typeof label === 'string') return label;
  if (isTensor(label) && label.dtype === 'uint8') return new TextDecoder().decode(label.data);
  if (isTensor(label) && label.dtype === 'string' && label.data.length === 1) return label.data[0] ?? '';
  throw new CompilerError('compiler/data', `${name} has no label that is a text`, { where: name });
}

export function isTensor(label: unknown): label is TensorValue {
  return typeof label === 'object' && label !== null && 'dtype' in label && 'data' in label;
}
