import { inferTypes, floats, type Node } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn } from './edit.ts';

/**
 * Drops nodes that hand on what they get: `Identity`, inference-time `Dropout`, `Cast` to the same type, `x · 1`,
 * `x / 1`, `x + 0`, `x − 0`; in subgraphs too. One between a graph input and a graph output stays: both names are API.
 * Arithmetic stays where the constant's rank could widen the result.
 */
export const eliminateIdentity = definePass({
  name: 'eliminate-identity',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    const types = inferTypes(graph);
    const rankOf = (value: string) => types.get(value)?.dims?.length;
    for (const node of Array.from(graph.walk())) {
      const kept = handsOn(node, rankOf) ?? (isIdleCast(node, (value) => types.get(value)?.dtype) ? 0 : undefined);
      if (kept === undefined) continue;
      const value = node.inputs[kept] ?? '';
      if (joinsNames(node, value)) note(node, "kept: both names are the graph's own");
      else handOn(node, value);
    }
    return graph;
  },
});

/** True where neither name can go: a graph output on one side; an input, constant or other output on the other. */
function joinsNames({ graph, outputs }: Node, value: string): boolean {
  return graph.isOutput(outputs[0] ?? '') && (graph.producer(value) === undefined || graph.isOutput(value));
}

/** The index of the input that comes out unchanged. */
function handsOn(node: Node, rankOf: (value: string) => number | undefined): 0 | 1 | undefined {
  if (node.domain !== '') return undefined;
  const isNeutral = (index: 0 | 1, neutral: number): boolean => {
    const tensor = node.graph.constant(node.inputs[index] ?? '');
    if (tensor?.dtype !== 'float32' || tensor.dims.some((dim) => dim !== 1)) return false;
    if (floats(tensor)[0] !== neutral) return false;
    const rank = tensor.dims.length === 0 ? 0 : rankOf(node.inputs[1 - index] ?? '');
    return rank !== undefined && tensor.dims.length <= rank;
  };
  switch (node.opType) {
    case 'Identity':
      return 0;
    case 'Dropout':
      // A mask that someone reads must be made; from opset 12 a third input may ask for training.
      return node.outputs.slice(1).every((mask) => mask === '') && node.inputs.length < 3 ? 0 : undefined;
    case 'Div':
      return isNeutral(1, 1) ? 0 : undefined;
    case 'Sub':
      return isNeutral(1, 0) ? 0 : undefined;
    case 'Mul':
    case 'Add': {
      const neutral = node.opType === 'Mul' ? 1 : 0;
      if (isNeutral(1, neutral)) return 0;
      return isNeutral(0, neutral) ? 1 : undefined;
    }
    default:
      return undefined;
  }
}

/** TensorProto.DataType numbers that a Cast can name, of the types whose no-op casts exporters leave behind. */
const castNumbers = new Map([
  ['float32', 1],
  ['int32', 6],
  ['int64', 7],
  ['bool', 9],
  ['float16', 10],
]);

function isIdleCast(node: Node, typeOf: (value: string) => string | undefined): boolean {
  if (node.opType !== 'Cast' || node.domain !== '') return false;
  const from = typeOf(node.inputs[0] ?? '');
  return from !== undefined && castNumbers.get(from) === node.int('to', 0);
}
