import { cloneModel, type Graph, type Model } from '@flotilla/onnx';
import type { Tensors } from '@flotilla/runtime';
import type { Calibration } from '../../calibrate/calibration.ts';
import { OutputError } from '../../evaluate/output-error.ts';
import type { PassContext } from '../../pass.ts';
import { costsOf } from './costs.ts';
import { fasterInFloat } from './faster-in-float.ts';
import { rangeOf } from './observed.ts';
import { type InFloat, planInt8, type Role } from './plan.ts';
import type { StaticOptions } from './static-options.ts';

type Context = PassContext & { readonly calibration: Calibration };
type Floats = ReadonlyMap<string, InFloat>;
type Convert = (model: Model, inFloat: Floats) => void;

const SLOWER: InFloat = {
  why: 'integers would not be faster: too few products for the conversions around them',
  weights: 'int8',
};

/** Samples that a conversion is tried on. */
const TRIED = 3;

/** Of the convolutions, how many may be float for the outputs' sake. */
const MOST = 0.75;

/**
 * What static int8 leaves in float, though it need not: what would not be faster, then as many of the first
 * convolutions as the outputs need. @returns first outputs of nodes, and why
 */
export async function layersInFloat(
  graph: Graph,
  context: Context,
  options: StaticOptions,
  convert: Convert,
): Promise<Floats> {
  const { calibration, board } = context;
  const costs = options.onlyIfFaster ? costsOf(board?.boardClass) : undefined;
  const roles = (inFloat: Floats): ReadonlyMap<Node, Role> =>
    planInt8(graph, {
      ...options,
      inFloat,
      isObserved: (value) => rangeOf(graph, value, calibration, options) !== undefined,
    }).roles;
  const slower = costs ? fasterInFloat(graph, roles(new Map()), { costs, calibration }) : [];
  const inFloat = new Map([...slower].map((value) => [value, SLOWER]));
  if (options.floor === 0 || !context.samples) return inFloat;
  const candidates = [...roles(inFloat)].flatMap(([node, role]) =>
    role.kind === 'core' && node.opType === 'Conv' ? [node.outputs[0] ?? ''] : [],
  );
  return firstInFloat(graph.model, context, { inFloat, candidates, floor: options.floor, convert });
}

type Node = Graph['nodes'][number];

interface Search {
  readonly inFloat: Floats;
  /** Outputs of the convolutions in integers, in graph order. */
  readonly candidates: readonly string[];
  readonly floor: number;
  readonly convert: Convert;
}

/**
 * The fewest of the first convolutions whose being float brings the outputs to the floor: what is lost there every layer
 * behind passes on, and values near the input have the longest tails. Where not even three quarters of them would do, the
 * error comes from all over, and none is left in float for it.
 */
async function firstInFloat(
  model: Model,
  context: Context,
  { inFloat, candidates, floor, convert }: Search,
): Promise<Floats> {
  const references = await outputsOf(model, context);
  // Rounded to 8 bits without a look at their products, weights err as much as activations do.
  const kept: InFloat = { why: `its error would leave the outputs under ${floor} dB`, weights: 'fp16' };
  const withFirst = (count: number): Floats =>
    new Map([...inFloat, ...candidates.slice(0, count).map((value): [string, InFloat] => [value, kept])]);
  const reaches = async (count: number): Promise<boolean> => {
    const tried = cloneModel(model);
    convert(tried, withFirst(count));
    const error = new OutputError();
    for (const [i, outputs] of (await outputsOf(tried, context)).entries()) error.add(references[i] ?? {}, outputs);
    return (error.sqnrDb() ?? Infinity) >= floor;
  };
  const most = Math.floor(candidates.length * MOST);
  if (most === 0 || (await reaches(0)) || !(await reaches(most))) return inFloat;
  let [fails, works] = [0, most];
  while (works - fails > 1) {
    const middle = Math.floor((fails + works) / 2);
    if (await reaches(middle)) works = middle;
    else fails = middle;
  }
  return withFirst(works);
}

async function outputsOf(model: Model, { open, samples, signal }: Context): Promise<readonly Tensors[]> {
  const session = await open(model);
  const found: Tensors[] = [];
  try {
    for await (const feeds of samples?.() ?? []) {
      signal?.throwIfAborted();
      found.push(await session.run(feeds));
      if (found.length === TRIED) break;
    }
  } finally {
    await session.close();
  }
  return found;
}
