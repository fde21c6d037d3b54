import type { Graph, Node } from '@flotilla/onnx';
import { z } from 'zod';
import { definePass } from '../pass.ts';
import { handOn, scalarConstant, soleReader } from './edit.ts';

/**
 * Spells hard-sigmoid and hard-swish one way: `clip(x + 3, 0, 6) / 6` (or `· 1/6`) becomes `HardSigmoid(1/6, 0.5)`;
 * `x · clip(x + 3, 0, 6) / 6` and the `HardSwish` op become `x · HardSigmoid(x)`. That is fewer passes over memory,
 * and the form that int8 can compute in whole numbers. A value that someone else reads along the way stays as it is.
 */
export const fuseHardSwish = definePass({
  name: 'fuse-hard-swish',
  stage: 'rewrite',
  options: z.strictObject({}),
  run(graph, { note }) {
    for (const node of Array.from(graph.walk({ opType: 'HardSwish' })))
      note(spellOut(node), 'HardSwish spelt out', 'rewritten');
    for (const clip of Array.from(graph.walk({ opType: 'Clip' }))) {
      const gate = gateBehind(clip);
      if (gate) note(gate, 'clip(x + 3, 0, 6) / 6 became HardSigmoid', 'rewritten');
    }
    return graph;
  },
});

function spellOut(node: Node): Node {
  const { graph } = node;
  const [x = ''] = node.inputs;
  const gate = graph.uniqueName(`${node.outputs[0]}_gate`);
  graph.addNode(
    {
      opType: 'HardSigmoid',
      inputs: [x],
      outputs: [gate],
      attributes: { alpha: { float: 1 / 6 }, beta: { float: 0.5 } },
    },
    { before: node },
  );
  const mul = graph.addNode(
    { opType: 'Mul', inputs: [x, gate], outputs: [graph.uniqueName(`${node.outputs[0]}_product`)] },
    { before: node },
  );
  handOn(node, mul.outputs[0] ?? '');
  return mul;
}

/** Rewrites Add → Clip → (Mul by x)? → Div, in either order of the last two; undefined where it is not that. */
function gateBehind(clip: Node): Node | undefined {
  const { graph } = clip;
  const add = graph.producer(clip.inputs[0] ?? '');
  if (add?.opType !== 'Add') return undefined;
  const shiftIndex = scalarConstant(add, 1) === undefined ? 0 : 1;
  const shift = scalarConstant(add, shiftIndex);
  const x = add.inputs[1 - shiftIndex] ?? '';
  if (shift !== 3 || !clipsTo(clip, 0, 6)) return undefined;

  const next = soleReader(graph, clip.outputs[0] ?? '');
  if (!next) return undefined;
  if (isSixth(next, clip.outputs[0] ?? '')) return replaceGate(graph, next, x);
  // x · clip(…), then / 6: the division moves into the gate.
  if (next.opType !== 'Mul' || !next.inputs.includes(x)) return undefined;
  const last = soleReader(graph, next.outputs[0] ?? '');
  if (!last || !isSixth(last, next.outputs[0] ?? '')) return undefined;
  const gate = addGate(graph, next, x);
  next.setInput(next.inputs.indexOf(clip.outputs[0] ?? ''), gate.outputs[0] ?? '');
  handOn(last, next.outputs[0] ?? '');
  return gate;
}

function replaceGate(graph: Graph, sixth: Node, x: string): Node {
  const gate = addGate(graph, sixth, x);
  handOn(sixth, gate.outputs[0] ?? '');
  return gate;
}

function addGate(graph: Graph, before: Node, x: string): Node {
  return graph.addNode(
    {
      opType: 'HardSigmoid',
      inputs: [x],
      outputs: [graph.uniqueName(`${x}_gate`)],
      attributes: { alpha: { float: 1 / 6 }, beta: { float: 0.5 } },
    },
    { before },
  );
}

/** `value / 6` or `value · 1/6`. */
function isSixth(node: Node, value: string): boolean {
  const index = node.inputs.indexOf(value);
  const factor = scalarConstant(node, 1 - index);
  if (index < 0 || factor === undefined) return false;
  if (node.opType === 'Div') return index === 0 && factor === 6;
  return node.opType === 'Mul' && Math.abs(factor * 6 - 1) < 1e-6;
}

/** Bounds as attributes (opset 6) or as inputs (11). */
function clipsTo(clip: Node, min: number, max: number): boolean {
  const low = clip.attributes.has('min') ? clip.float('min', 0) : scalarConstant(clip, 1);
  const high = clip.attributes.has('max') ? clip.float('max', 0) : scalarConstant(clip, 2);
  return low === min && high === max;
}
