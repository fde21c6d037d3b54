import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  buildModel,
  checkModel,
  cloneModel,
  decodeModel,
  encodeModel,
  inferTypes,
  OnnxError,
  tensorFromFloats,
  tensorFromInts,
  tensorInfo,
} from '../src/index.ts';

const good = encodeModel(
  buildModel({
    opset: 17,
    inputs: [tensorInfo('x', 'float32', ['n', 4])],
    outputs: [tensorInfo('y', 'float32', undefined)],
    nodes: [
      { opType: 'MatMul', inputs: ['x', 'w'], outputs: ['h'] },
      { opType: 'Reshape', inputs: ['h', 's'], outputs: ['r'] },
      {
        opType: 'If',
        inputs: ['c'],
        outputs: ['y'],
        attributes: {
          then_branch: {
            graph: {
              inputs: [],
              outputs: [tensorInfo('t', 'float32', undefined)],
              nodes: [{ opType: 'Softmax', inputs: ['r'], outputs: ['t'], attributes: { axis: { int: -1 } } }],
            },
          },
        },
      },
    ],
    initializers: {
      w: tensorFromFloats([4, 3], new Float32Array(12)),
      s: tensorFromInts('int64', [2], [-1, 3]),
      c: tensorFromInts('bool', [], [1]),
    },
  }),
);

/** Everything that reads a model: whatever is wrong with it must come out as an OnnxError. */
function readAll(bytes: Uint8Array): void {
  try {
    const opened = decodeModel(bytes);
    expect(Buffer.compare(encodeModel(opened), bytes)).toBe(0);
    const clone = cloneModel(opened);
    for (const node of clone.graph.walk()) {
      for (const name of node.inputs) clone.graph.constant(name)?.bytes();
      if (node.outputs[0] !== undefined) node.setOutput(0, clone.graph.uniqueName(node.outputs[0]));
    }
    encodeModel(clone);
    inferTypes(opened.graph);
    checkModel(opened);
  } catch (error) {
    if (!(error instanceof OnnxError)) throw error;
  }
}

test('a model with some bytes changed, cut out or put in is read or refused, and never anything else', () => {
  const edit = fc.record({
    at: fc.nat({ max: good.length - 1 }),
    remove: fc.nat({ max: 3 }),
    insert: fc.uint8Array({ maxLength: 3 }),
  });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      let bytes = Buffer.from(good);
      for (const { at, remove, insert } of edits)
        bytes = Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + remove)]);
      readAll(new Uint8Array(bytes));
    }),
    { numRuns: 3000 },
  );
});

test('any bytes at all are read or refused', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), readAll), { numRuns: 2000 });
});
