import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RuntimeError } from './errors.ts';
import { spawnSession } from './spawn-session.ts';
import type { SessionOptions, Tensors } from './types.ts';

export interface OperatorTime {
  /** The node's name, after ONNX Runtime's own rewriting. */
  readonly name: string;
  readonly op: string;
  /** Median over the runs. */
  readonly us: number;
  /** Of the sum over all nodes. */
  readonly share: number;
}

/**
 * Time per node, slowest first, from ONNX Runtime's profiler in a process of its own.
 * @throws {RuntimeError} as `spawnSession`, or `runtime/profile`
 */
export async function profileOperators(
  modelPath: string,
  feeds: readonly Tensors[],
  options: SessionOptions & { readonly runs?: number | undefined } = {},
): Promise<OperatorTime[]> {
  const { runs = 20, ...sessionOptions } = options;
  const folder = await mkdtemp(join(tmpdir(), 'flotilla-profile-'));
  try {
    const session = await spawnSession(modelPath, { ...sessionOptions, profilePrefix: join(folder, 'profile') });
    await session.measure(feeds, { seconds: 30, maxRuns: runs });
    await session.closeGently();
    const [file] = await readdir(folder);
    if (file === undefined) throw new RuntimeError('runtime/profile', 'ONNX Runtime wrote no profile');
    return operatorTimes(JSON.parse(await readFile(join(folder, file), 'utf8')));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function operatorTimes(events: unknown): OperatorTime[] {
  if (!Array.isArray(events)) throw new RuntimeError('runtime/profile', 'the profile is not a list of events');
  const nodes = new Map<string, { op: string; times: number[] }>();
  for (const event of events) {
    if (!isNodeEvent(event)) continue;
    const name = event.name.replace(/_kernel_time$/, '');
    const node = nodes.get(name) ?? { op: event.args.op_name, times: [] };
    node.times.push(event.dur);
    nodes.set(name, node);
  }
  const medians = [...nodes].map(([name, { op, times }]) => ({ name, op, us: median(times) }));
  const total = medians.reduce((sum, { us }) => sum + us, 0);
  return medians.map((node) => ({ ...node, share: total > 0 ? node.us / total : 0 })).toSorted((a, b) => b.us - a.us);
}

interface NodeEvent {
  readonly name: string;
  readonly dur: number;
  readonly args: { readonly op_name: string };
}

function isNodeEvent(event: unknown): event is NodeEvent {
  const { cat, name, dur, args } = event as {
    cat?: unknown;
    name?: unknown;
    dur?: unknown;
    args?: { op_name?: unknown };
  };
  return (
    cat === 'Node' &&
    typeof name === 'string' &&
    name.endsWith('_kernel_time') &&
    typeof dur === 'number' &&
    typeof args?.op_name === 'string'
  );
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}
