import { join } from 'node:path';
import { openSession, type Session, type SessionInput, type Tensors } from '@flotilla/runtime';
import { type Clip, clips, RATE } from '../speech.ts';
import { type Answers, firstFloats, floats, type Task, type ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';

const FRAME = 512;
/** Of the frame before, which the model is given too. */
const CONTEXT = 64;

/** Speech or none, frame by frame: equal to fp32, each model with the state that it made itself. */
export function voice(model: string, path: string, sizes: ZooSizes): Task {
  return {
    model,
    path,
    onnxPath: path,
    metric: 'frames decided as fp32 does',
    async calibrate(dir) {
      const session = await openSession(path);
      const seen: Tensors[] = [];
      for (const clip of await clips('calibrate', 8)) await listen(session, clip, (feeds) => seen.push(feeds));
      await session.close();
      const step = Math.max(1, Math.floor(seen.length / 60));
      return writeSamples(join(dir, 'calibrate'), seen.filter((_, i) => i % step === 0).slice(0, 60));
    },
    async judge({ session }): Promise<Answers> {
      const [marks, outputs]: [string[], Float32Array[]] = [[], []];
      for (const clip of await clips('judge', sizes.clips)) {
        const speech = await listen(session, clip);
        for (const share of speech) marks.push(share > 0.5 ? 'speech' : 'none');
        outputs.push(Float32Array.from(speech));
      }
      return { marks, outputs };
    },
    feeds: (inputs) => [firstFeeds(inputs)],
  };
}

/** Runs one clip from an empty state; what comes out as a state goes in again. */
async function listen(session: Session, { samples }: Clip, watch?: (feeds: Tensors) => unknown): Promise<number[]> {
  const states = session.inputs.filter(({ name }) => name !== 'input' && name !== 'sr');
  let feeds = firstFeeds(session.inputs);
  const found: number[] = [];
  for (let at = 0; at + FRAME <= samples.length; at += FRAME) {
    const frame = new Float32Array(CONTEXT + FRAME);
    frame.set(samples.subarray(Math.max(0, at - CONTEXT), at + FRAME), at === 0 ? CONTEXT : 0);
    feeds = { ...feeds, input: floats([1, frame.length], frame) };
    watch?.(feeds);
    const outputs = await session.run(feeds);
    found.push(firstFloats({ output: outputs['output'] as Tensors[string] })[0] ?? 0);
    for (const { name } of states)
      feeds = { ...feeds, [name]: outputs[`${name}N`] ?? (outputs[`${name}n`] as Tensors[string]) };
  }
  return found;
}

function firstFeeds(inputs: readonly SessionInput[]): Tensors {
  return Object.fromEntries(
    inputs.map(({ name, dims }): [string, Tensors[string]] => {
      if (name === 'sr') return [name, { dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(RATE)) }];
      const sizes = name === 'input' ? [1, CONTEXT + FRAME] : dims.map((dim) => (typeof dim === 'number' ? dim : 1));
      const length = sizes.reduce((product, size) => product * size, 1);
      // Something to hear, where it is to be timed.
      return [
        name,
        floats(
          sizes,
          Float32Array.from({ length }, (_, i) => (name === 'input' ? Math.sin(i / 5) / 4 : 0)),
        ),
      ];
    }),
  );
}
