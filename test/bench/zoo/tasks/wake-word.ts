import { join } from 'node:path';
import { openSession, type Session, type Tensors } from '@flotilla/runtime';
import { zoo } from '../../../models/zoo.ts';
import { clips } from '../speech.ts';
import { type Answers, firstFloats, floats, type Task, type ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';

/** openWakeWord's chain: sound → mel bands → embeddings of 76 mel frames at steps of 8 → a keyword's probability. */
type Part = 'mel' | 'embedding' | 'keyword';

const [CHUNK, OVERLAP] = [1280, 480];
const [BANDS, WINDOW, HOP, EMBEDDING] = [32, 76, 8, 96];

const KEYWORDS = ['alexa_v0.1', 'hey_jarvis_v0.1', 'timer_v0.1'];
const melPath = zoo.get('melspectrogram') ?? '';
const embeddingPath = zoo.get('embedding_model') ?? '';

/** One model of the chain; the others are fp32. Keywords heard or not, frame by frame, equal to fp32. */
export function wakeWord(model: string, path: string, part: Part, sizes: ZooSizes): Task {
  const keywords = part === 'keyword' ? [model] : KEYWORDS;
  return {
    model,
    path,
    onnxPath: path,
    metric: 'frames decided as fp32 does',
    async calibrate(dir) {
      const samples = await inputsOf(part, path, 'calibrate', 16);
      const step = Math.max(1, Math.floor(samples.length / 60));
      return writeSamples(join(dir, 'calibrate'), samples.filter((_, i) => i % step === 0).slice(0, 60));
    },
    async judge({ session }): Promise<Answers> {
      const [marks, outputs]: [string[], Float32Array[]] = [[], []];
      const mel = part === 'mel' ? session : await openSession(melPath);
      const embedding = part === 'embedding' ? session : await openSession(embeddingPath);
      const heads = await Promise.all(
        keywords.map(async (name) => (part === 'keyword' ? session : openSession(zoo.get(name) ?? ''))),
      );
      for (const { samples } of await clips('judge', sizes.clips)) {
        const bands = await melOf(mel, samples);
        const vectors = await vectorsOf(embedding, bands);
        if (part === 'mel') outputs.push(bands);
        if (part === 'embedding') outputs.push(...vectors);
        for (const head of heads)
          for (const window of windowsOf(head, vectors)) {
            const shares = firstFloats(await head.run(window));
            marks.push(decision(shares));
            if (part === 'keyword') outputs.push(shares);
          }
      }
      for (const other of [mel, embedding, ...heads]) if (other !== session) await other.close();
      return { marks, outputs };
    },
    feeds: (inputs) => {
      const [input] = inputs;
      const dims =
        part === 'mel' ? [1, OVERLAP + CHUNK] : (input?.dims ?? []).map((dim) => (typeof dim === 'number' ? dim : 1));
      const length = dims.reduce((product, dim) => product * dim, 1);
      const scale = part === 'mel' ? 3000 : 1;
      return [
        {
          [input?.name ?? '']: floats(
            dims,
            Float32Array.from({ length }, (_, i) => scale * Math.sin(i / 7)),
          ),
        },
      ];
    },
  };
}

/** The strongest class from a probability of a half on, else none. */
function decision(shares: Float32Array): string {
  let best = -1;
  for (const [i, share] of shares.entries()) if (share >= 0.5 && share > (shares[best] ?? 0)) best = i;
  return String(best);
}

async function inputsOf(part: Part, path: string, of: 'calibrate' | 'judge', count: number): Promise<Tensors[]> {
  const found: Tensors[] = [];
  const [mel, embedding, own] = [await openSession(melPath), await openSession(embeddingPath), await openSession(path)];
  const name = own.inputs[0]?.name ?? '';
  for (const { samples } of await clips(of, count)) {
    if (part === 'mel') found.push(...chunksOf(samples).map((chunk) => ({ [name]: floats([1, chunk.length], chunk) })));
    else {
      const bands = await melOf(mel, samples);
      if (part === 'embedding')
        found.push(...framesOf(bands).map((one) => ({ [name]: floats([1, WINDOW, BANDS, 1], one) })));
      else found.push(...windowsOf(own, await vectorsOf(embedding, bands)));
    }
  }
  for (const session of [mel, embedding, own]) await session.close();
  return found;
}

/** As they stream in: 80 ms, behind the last 30 ms of the chunk before; 16-bit numbers as floats. */
function chunksOf(samples: Float32Array): readonly Float32Array[] {
  const chunks: Float32Array[] = [];
  for (let at = OVERLAP; at + CHUNK <= samples.length; at += CHUNK)
    chunks.push(
      samples.slice(at - OVERLAP, at + CHUNK).map((value) => Math.round(32_767 * Math.max(-1, Math.min(1, value)))),
    );
  return chunks;
}

/** Mel frames of the whole clip, scaled as openWakeWord does: x / 10 + 2. Row-major [frames, 32]. */
async function melOf(mel: Session, samples: Float32Array): Promise<Float32Array> {
  const name = mel.inputs[0]?.name ?? '';
  const rows: number[] = [];
  for (const chunk of chunksOf(samples)) {
    const bands = firstFloats(await mel.run({ [name]: floats([1, chunk.length], chunk) }));
    for (const value of bands) rows.push(value / 10 + 2);
  }
  return Float32Array.from(rows);
}

function framesOf(bands: Float32Array): readonly Float32Array[] {
  const frames: Float32Array[] = [];
  for (let at = 0; (at + WINDOW) * BANDS <= bands.length; at += HOP)
    frames.push(bands.slice(at * BANDS, (at + WINDOW) * BANDS));
  return frames;
}

async function vectorsOf(embedding: Session, bands: Float32Array): Promise<readonly Float32Array[]> {
  const name = embedding.inputs[0]?.name ?? '';
  const vectors: Float32Array[] = [];
  for (const frame of framesOf(bands))
    vectors.push(firstFloats(await embedding.run({ [name]: floats([1, WINDOW, BANDS, 1], frame) })));
  return vectors;
}

function windowsOf({ inputs }: Session, vectors: readonly Float32Array[]): readonly Tensors[] {
  const [input] = inputs;
  const length = Number(input?.dims[1] ?? 16);
  // Silence before the clip, as long as a window: a keyword at its beginning counts too.
  const all = [...Array.from({ length: length - 1 }, () => vectors[0] ?? new Float32Array(EMBEDDING)), ...vectors];
  return vectors.map((_, end) => {
    const window = new Float32Array(length * EMBEDDING);
    for (let i = 0; i < length; i++) window.set(all[end + i] ?? [], i * EMBEDDING);
    return { [input?.name ?? '']: floats([1, length, EMBEDDING], window) };
  });
}
