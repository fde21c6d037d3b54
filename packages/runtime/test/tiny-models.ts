import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// ONNX files by hand, field by field: these tests must not rest on the package that writes them for the product.

type Field = readonly [number, number | string | Uint8Array];

function message(...fields: readonly Field[]): Uint8Array {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === 'number') return [varint(number << 3), varint(value)];
      const bytes = typeof value === 'string' ? Buffer.from(value) : value;
      return [varint((number << 3) | 2), varint(bytes.length), bytes];
    }),
  );
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (let rest = BigInt(value); ; rest >>= 7n) {
    if (rest < 128n) return Uint8Array.from([...bytes, Number(rest)]);
    bytes.push(Number(rest & 127n) | 128);
  }
}

const FLOAT = 1;
const INT64 = 7;
const BOOL = 9;

const valueInfo = (name: string, type: number, ...dims: readonly (number | string)[]) => {
  const shape = message(...dims.map((dim): Field => [1, message(typeof dim === 'number' ? [1, dim] : [2, dim])]));
  return message([1, name], [2, message([1, message([1, type], [2, shape])])]);
};
const node = (
  op: string,
  inputs: readonly string[],
  outputs: readonly string[],
  ...attributes: readonly Uint8Array[]
) =>
  message(
    ...inputs.map((name): Field => [1, name]),
    ...outputs.map((name): Field => [2, name]),
    [3, `${op}-node`],
    [4, op],
    ...attributes.map((attribute): Field => [5, attribute]),
  );
const scalar = (name: string, type: number, raw: ArrayBufferView) =>
  message([2, type], [8, name], [9, new Uint8Array(raw.buffer, raw.byteOffset, raw.byteLength)]);
const graph = (parts: {
  nodes: readonly Uint8Array[];
  inputs: readonly Uint8Array[];
  outputs: readonly Uint8Array[];
  initializers?: readonly Uint8Array[];
}) =>
  message(
    ...parts.nodes.map((part): Field => [1, part]),
    [2, 'g'],
    ...(parts.initializers ?? []).map((part): Field => [5, part]),
    ...parts.inputs.map((part): Field => [11, part]),
    ...parts.outputs.map((part): Field => [12, part]),
  );
const model = (body: Uint8Array) => message([1, 8], [7, body], [8, message([1, ''], [2, 17])]);

/** `y = x + 1`, float32 `[N, 2]`. */
export const addOne = model(
  graph({
    nodes: [node('Add', ['x', 'one'], ['y'])],
    inputs: [valueInfo('x', FLOAT, 'N', 2)],
    outputs: [valueInfo('y', FLOAT, 'N', 2)],
    initializers: [scalar('one', FLOAT, Float32Array.of(1))],
  }),
);

/** Adds 1 to x as many times as `count` says: 2^62 is a model that hangs, as valid as any. */
export const loop = model(
  graph({
    nodes: [
      node(
        'Loop',
        ['count', 'true', 'x'],
        ['y'],
        message(
          [1, 'body'],
          [
            6,
            graph({
              nodes: [node('Identity', ['going'], ['on']), node('Add', ['a', 'one'], ['b'])],
              inputs: [valueInfo('i', INT64), valueInfo('going', BOOL), valueInfo('a', FLOAT)],
              outputs: [valueInfo('on', BOOL), valueInfo('b', FLOAT)],
            }),
          ],
          [20, 5],
        ),
      ),
    ],
    inputs: [valueInfo('count', INT64), valueInfo('x', FLOAT)],
    outputs: [valueInfo('y', FLOAT)],
    initializers: [scalar('true', BOOL, Uint8Array.of(1)), scalar('one', FLOAT, Float32Array.of(1))],
  }),
);

/** Zeros of the shape that it is fed. */
export const zeros = model(
  graph({
    nodes: [node('ConstantOfShape', ['shape'], ['y'])],
    inputs: [valueInfo('shape', INT64, 1)],
    outputs: [valueInfo('y', FLOAT, 'N')],
  }),
);

/** Gives a sequence of tensors, which is no tensor. */
export const sequence = model(
  graph({
    nodes: [node('SequenceConstruct', ['x', 'x'], ['s'])],
    inputs: [valueInfo('x', FLOAT, 'N', 2)],
    outputs: [message([1, 's'], [2, message([4, message([1, message([1, message([1, FLOAT])])])])])],
  }),
);

export async function saved(bytes: Uint8Array): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), 'runtime-')), 'model.onnx');
  await writeFile(path, bytes);
  return path;
}
