// kernels PACK BOARD: lowers a pack for a board, checks its golden vectors, profiles one run, and prints as one JSON line
// what was chosen, what ran and how far the answers were off.
import { readGolden } from '@flotilla/pack';
import { decoderFeeds, openRuntime, profileOperators, type Runtime, type Tensors } from '@flotilla/runtime';

const [path = '', board = ''] = process.argv.slice(2);
const runtime = await openRuntime(path, { board, threads: 1, isolate: false });
const golden = await runtime.golden();
const { session, sessionOptions, choices } = runtime;
const operators = await profileOperators(session.modelPath, [await feeds(runtime)], { ...sessionOptions, runs: 1 });
await runtime.close();
// A node that stays float may be fused into anything; the others must be what was said.
const chosen = choices.map(({ kernel }) => kernel).filter((kernel) => !kernel.includes(' '));
console.log(JSON.stringify({ chosen: count(chosen), ran: count(operators.map(({ op }) => op)), golden }));

async function feeds({ pack, session: { inputs } }: Runtime): Promise<Tensors> {
  if (pack.config.task === 'text') return decoderFeeds(inputs, [1, 1, 1], 4);
  const [first] = readGolden(await pack.file(pack.config.golden?.path ?? ''));
  if (first === undefined) throw new Error(`${path} has no golden vectors`);
  return first.inputs;
}

function count(names: readonly string[]): { readonly [name: string]: number } {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return Object.fromEntries(counts);
}
