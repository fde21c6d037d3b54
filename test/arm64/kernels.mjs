// node kernels.mjs PACK BOARD: lowers a pack for a board, checks its golden vectors, profiles one run, and prints as one
// JSON line what was chosen, what ran and how far the answers were off.
import { readGolden } from '@flotilla/pack';
import { openRuntime, profileOperators } from '@flotilla/runtime';

const [path, board] = process.argv.slice(2);
const runtime = await openRuntime(path, { board, threads: 1, isolate: false });
const golden = await runtime.golden();
const { session, sessionOptions, choices } = runtime;
const operators = await profileOperators(session.modelPath, [await feeds()], { ...sessionOptions, runs: 1 });
await runtime.close();
// A node that stays float may be fused into anything; the others must be what was said.
const chosen = choices.map(({ kernel }) => kernel).filter((kernel) => !kernel.includes(' '));
console.log(JSON.stringify({ chosen: count(chosen), ran: count(operators.map(({ op }) => op)), golden }));

async function feeds() {
  const { config } = runtime.pack;
  if (config.task === 'text') return decoderFeeds(session.inputs, 3, 4);
  const [first] = readGolden(await runtime.pack.file(config.golden.path));
  return first.inputs;
}

/** Any numbers do: which kernels run does not depend on them. */
function decoderFeeds(inputs, tokens, past) {
  const int64 = (length) => ({ dtype: 'int64', dims: [1, length], data: new BigInt64Array(length).fill(1n) });
  const cache = ([, heads, , size]) => {
    const dims = [1, heads, past, size];
    return { dtype: 'float32', dims, data: new Float32Array(heads * past * size) };
  };
  return Object.fromEntries(
    inputs.map(({ name, dims }) => {
      if (name.startsWith('past')) return [name, cache(dims)];
      return [name, int64(name === 'attention_mask' ? past + tokens : tokens)];
    }),
  );
}

function count(names) {
  const counts = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}
