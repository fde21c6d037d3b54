import type { Dim, Graph, ValueInfo } from '@flotilla/onnx';
import { z } from 'zod';
import { CompilerError } from '../errors.ts';
import { nearest } from '../nearest.ts';
import { definePass } from '../pass.ts';

/**
 * Gives graph inputs fixed lengths, so that what depends on them can be folded: `shapes: { x: [1, 3, 48, 320] }`. A
 * dimension's name means one length everywhere. Outputs lose what they said of such dimensions.
 * @throws {CompilerError} `compiler/recipe`: no such input, another rank, or a length that contradicts the model's
 */
export const fixShape = definePass({
  name: 'fix-shape',
  stage: 'rewrite',
  options: z.strictObject({ shapes: z.record(z.string(), z.array(z.int().positive())).default({}) }),
  run(graph, _context, { shapes }) {
    if (Object.keys(shapes).length === 0) return graph;
    const lengths = new Map<string, number>();
    for (const [name, shape] of Object.entries(shapes)) nameLengths(inputOf(graph, name), shape, lengths);
    const fix = (info: ValueInfo, fallback: (dim: Dim) => Dim): ValueInfo => {
      const dims = info.type?.dims?.map((dim) => (typeof dim === 'string' ? (lengths.get(dim) ?? fallback(dim)) : dim));
      return info.type && dims ? { ...info, type: { ...info.type, dims } } : info;
    };
    graph.setInputs(
      graph.inputs.map((info) => {
        const shape = Object.hasOwn(shapes, info.name) ? shapes[info.name] : undefined;
        return shape && info.type ? { ...info, type: { ...info.type, dims: shape } } : fix(info, (dim) => dim);
      }),
    );
    graph.setOutputs(graph.outputs.map((info) => fix(info, (dim) => dim)));
    return graph;
  },
});

function inputOf(graph: Graph, name: string): ValueInfo {
  const inputs = graph.inputs.filter((one) => !graph.initializers.has(one.name));
  const input = inputs.find((one) => one.name === name);
  if (input) return input;
  const names = inputs.map((one) => one.name);
  throw new CompilerError('compiler/recipe', `fix-shape: the model has no input "${name}"${nearest(name, names)}`, {
    where: name,
    hint: `its inputs are ${names.join(', ')}`,
  });
}

function nameLengths({ name, type }: ValueInfo, shape: readonly number[], lengths: Map<string, number>): void {
  const dims = type?.dims;
  const refuse = (): never => {
    const message = `fix-shape: ${name} is [${dims?.join(', ')}], not [${shape.join(', ')}]`;
    throw new CompilerError('compiler/recipe', message, {
      where: name,
      hint: 'give its free dimensions a length each',
    });
  };
  if (dims === undefined) return;
  if (dims.length !== shape.length) return refuse();
  for (const [axis, dim] of dims.entries()) {
    const length = shape[axis] ?? 1;
    if (typeof dim === 'number' && dim !== length) return refuse();
    if (typeof dim !== 'string') continue;
    const known = lengths.get(dim);
    if (known !== undefined && known !== length) return refuse();
    lengths.set(dim, length);
  }
}
