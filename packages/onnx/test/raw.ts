import { expect } from 'vitest';
import { OnnxError, type OnnxErrorCode } from '../src/index.ts';

/** Models written byte by byte, so that they can be untidy or wrong where an encoder never is. */
export function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
  return Buffer.from([...bytes, rest]);
}

export type Part = string | Uint8Array;

function bytesOf(parts: readonly Part[]): Buffer {
  return Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
}

/** A length-delimited field. */
export function field(number: number, ...parts: readonly Part[]): Buffer {
  const content = bytesOf(parts);
  return Buffer.concat([varint(number * 8 + 2), varint(content.length), content]);
}

export function int(number: number, value: number): Buffer {
  return Buffer.concat([varint(number * 8), varint(value)]);
}

export function node(opType: string, inputs: readonly string[], outputs: readonly string[], ...more: Part[]): Buffer {
  return field(
    1,
    ...inputs.map((name) => field(1, name)),
    ...outputs.map((name) => field(2, name)),
    field(4, opType),
    ...more,
  );
}

export function input(name: string): Buffer {
  return field(11, field(1, name));
}

export function output(name: string): Buffer {
  return field(12, field(1, name));
}

/** A tensor with those dims and float32 raw data of the right length, unless told otherwise. */
export function tensor(name: string, dims: readonly number[], ...more: readonly Part[]): Buffer {
  const count = dims.reduce((all, dim) => all * dim, 1);
  const data = more.length > 0 ? more : [int(2, 1), field(9, Buffer.alloc(4 * count))];
  return field(5, ...dims.map((dim) => int(1, dim)), field(8, name), ...data);
}

export function model(...graph: readonly Part[]): Buffer {
  return Buffer.concat([int(1, 8), field(8, field(1, ''), int(2, 17)), field(7, ...graph)]);
}

/** y = Relu(x), with whatever else is in the graph. */
export function reluModel(...more: readonly Part[]): Buffer {
  return model(node('Relu', ['x'], ['y']), ...more, input('x'), output('y'));
}

export function expectCode(act: () => unknown, code: OnnxErrorCode, message?: RegExp): void {
  let error: unknown;
  try {
    act();
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(OnnxError);
  expect(error).toMatchObject({ code });
  // One clear line, whatever the cause.
  expect((error as Error).message).not.toContain('\n');
  if (message !== undefined) expect((error as Error).message).toMatch(message);
}

export async function expectCodeAsync(act: Promise<unknown>, code: OnnxErrorCode, message?: RegExp): Promise<void> {
  const settled = await act.then(
    () => undefined,
    (error: unknown) => error,
  );
  expectCode(
    () => {
      if (settled !== undefined) throw settled;
    },
    code,
    message,
  );
}
