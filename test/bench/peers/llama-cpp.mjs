// llama-cpp.mjs MODEL.gguf, run in a folder where node-llama-cpp is installed. For every line { ids, steps } it reads the
// tokens into an empty cache, generates, and answers { prefillMs, stepMs: [...] } on a line.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const here = createRequire(`${process.cwd()}/`);
const { getLlama } = await import(pathToFileURL(here.resolve('node-llama-cpp')).href);
const llama = await getLlama({ gpu: false, build: 'never', progressLogs: false, logLevel: 'error', maxThreads: 1 });
const model = await llama.loadModel({ modelPath: process.argv[2] });
const context = await model.createContext({ contextSize: 2048, threads: 1 });
const sequence = context.getSequence();
process.stdout.write('{"ready":true}\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { ids, steps } = JSON.parse(line);
  await sequence.clearHistory();
  const times = [performance.now()];
  for await (const _ of sequence.evaluate(ids, { temperature: 0 })) {
    times.push(performance.now());
    if (times.length > steps + 1) break;
  }
  const spans = times.slice(1).map((time, i) => time - times[i]);
  process.stdout.write(`${JSON.stringify({ prefillMs: spans[0], stepMs: spans.slice(1) })}\n`);
}
process.exit(0);
