import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { evaluate } from '@flotilla/compiler';
import { decoderFeeds, loadTokenizer, openSession, type TokenizerFiles } from '@flotilla/runtime';
import type { Task, ZooSizes } from '../task.ts';
import { writeSamples } from '../write-samples.ts';

/** Lines that calibrate; all others judge. */
const CALIBRATE = 100;

const WINDOW = 128;

/** Predicts text: perplexity on the rest of valid.txt. */
export function language(model: string, folder: string, sizes: ZooSizes, dir: string): Task {
  const write = async (to: string, from: number, end: number): Promise<string> => {
    const lines = (await readFile(join(folder, 'valid.txt'), 'utf8')).split('\n').filter((line) => line !== '');
    await mkdir(dir, { recursive: true });
    await writeFile(
      to,
      lines
        .slice(from, end)
        .map((line) => `${line}\n`)
        .join(''),
    );
    return to;
  };
  return {
    model,
    path: folder,
    onnxPath: join(folder, 'model.onnx'),
    metric: 'perplexity',
    lowerIsBetter: true,
    calibrate: (to) => write(join(to, 'calibrate.txt'), 0, CALIBRATE),
    // Windows of 128 tokens behind an empty cache, as perplexity's protocol cuts text.
    async arrays(to) {
      const session = await openSession(join(folder, 'model.onnx'));
      const tokenizer = loadTokenizer(await filesOf(folder));
      const text = await readFile(join(to, 'calibrate.txt'), 'utf8');
      const ids = text.split('\n').flatMap((line) => (line === '' ? [] : [...tokenizer.encode(`${line}\n`)]));
      const windows = Array.from({ length: Math.floor(ids.length / WINDOW) }, (_, i) =>
        decoderFeeds(session.inputs, ids.slice(i * WINDOW, (i + 1) * WINDOW)),
      );
      await session.close();
      return writeSamples(join(to, 'calibrate'), windows);
    },
    async judge({ path }) {
      const data = await write(join(dir, `${model}-${process.pid}.txt`), CALIBRATE, CALIBRATE + sizes.textLines);
      const { value, samples } = await evaluate(path, { data, metric: 'perplexity' });
      return { marks: Array.from({ length: samples }, () => ''), outputs: [], value };
    },
    // One decoding step with 64 tokens behind it.
    feeds: (inputs) => [decoderFeeds(inputs, [1], 64)],
  };
}

async function filesOf(folder: string): Promise<TokenizerFiles> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json'));
  return new Map(
    await Promise.all(names.map(async (name) => [name, new Uint8Array(await readFile(join(folder, name)))] as const)),
  );
}
