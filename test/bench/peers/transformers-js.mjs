// transformers-js.mjs FOLDER: a folder that transformers.js opens. For every line { ids, steps } it reads the tokens into
// an empty cache, generates, and answers { prefillMs, stepMs: [...] } on a line.
import { basename, dirname } from 'node:path';
import { createInterface } from 'node:readline';
import { AutoModelForCausalLM, BaseStreamer, env, Tensor } from '@huggingface/transformers';

const folder = process.argv[2];
env.allowRemoteModels = false;
env.localModelPath = `${dirname(folder)}/`;
const session_options = { intraOpNumThreads: 1, interOpNumThreads: 1, logSeverityLevel: 3 };
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), { session_options });

class Clock extends BaseStreamer {
  times = [];
  put() {
    this.times.push(performance.now());
  }
  end() {}
}

process.stdout.write('{"ready":true}\n');
for await (const line of createInterface({ input: process.stdin })) {
  const { ids, steps } = JSON.parse(line);
  const inputs = new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]);
  const attention_mask = new Tensor('int64', new BigInt64Array(ids.length).fill(1n), [1, ids.length]);
  const streamer = new Clock();
  const start = performance.now();
  // One id that no token has: nothing ends the text early.
  const limits = { max_new_tokens: steps + 1, do_sample: false, eos_token_id: 1 << 30 };
  await model.generate({ inputs, attention_mask, streamer, ...limits });
  const times = streamer.times.slice(1); // the prompt is put first
  const stepMs = times.slice(1).map((time, i) => time - times[i]);
  process.stdout.write(`${JSON.stringify({ prefillMs: times[0] - start, stepMs })}\n`);
}
process.exit(0);
