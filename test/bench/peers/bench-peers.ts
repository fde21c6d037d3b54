import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { modelsNamed, sizesOf, type ZooOptions, withSpeeds } from '../zoo/bench-zoo.ts';
import type { Line, Made, Row, Source } from '../zoo/row.ts';
import { bundleSteps, once, output, Steps } from '../zoo/steps.ts';
import { taskOf } from '../zoo/tasks.ts';
import { peerEnvironment } from './environment.ts';

/** A tool, one way to use it, and what it has to have. */
interface Method {
  readonly by: string;
  readonly recipe: string;
  readonly needs: string;
  readonly data: boolean;
}

const METHODS: readonly Method[] = [
  { by: 'onnxruntime', recipe: 'static-minmax', needs: 'onnxruntime', data: true },
  { by: 'onnxruntime', recipe: 'static-percentile', needs: 'onnxruntime', data: true },
  { by: 'onnxruntime', recipe: 'static-entropy', needs: 'onnxruntime', data: true },
  { by: 'onnxruntime', recipe: 'dynamic', needs: 'onnxruntime', data: false },
  { by: 'onnxruntime-nbits', recipe: 'rtn', needs: 'onnxruntime', data: false },
  // Its HQQ is written with torch, which Olive brings.
  { by: 'onnxruntime-nbits', recipe: 'hqq', needs: 'olive', data: false },
  { by: 'olive', recipe: 'static', needs: 'olive', data: true },
  { by: 'olive', recipe: 'dynamic', needs: 'olive', data: false },
  { by: 'aimet', recipe: 'ptq', needs: 'aimet', data: true },
];

const SCRIPT = 'test/bench/peers/quantize.py';

/** The same models by other tools, on the data of `benchZoo`, which ran before into the same folder. */
export async function benchPeers(
  { quick, only, folder, say }: ZooOptions,
  environmentDir: string,
): Promise<{ readonly lines: readonly Line[]; readonly skipped: readonly string[] }> {
  const { python, has, skipped } = await peerEnvironment(environmentDir, say);
  if (python === null) return { lines: [], skipped };
  const steps = new Steps(folder, await bundleSteps());
  const sizes = sizesOf(quick);
  const lines: Line[] = [];
  for (const model of modelsNamed(only)) {
    const source = await steps.take<Source>(model, 'fp32', 'source', { sizes });
    for (const method of METHODS.filter(({ needs }) => has.has(needs))) {
      const { by, recipe } = method;
      const line = { model, by, recipe, row: null, speeds: [] };
      const made = source.answer ? await make(python, folder, model, method, source.answer) : source;
      const judged = made.answer
        ? await steps.take<Row>(model, 'judge', `${by}-${recipe}`, { sizes, made: made.answer })
        : made;
      say(`${model} ${by} ${recipe}${judged.failed === null ? '' : `: ${judged.failed}`}`);
      lines.push({ ...line, row: judged.answer, failed: judged.failed });
    }
  }
  return { lines: await withSpeeds(steps, lines, sizes, say), skipped };
}

/** Runs one tool in a process of its own; the file lies beside what its source has beside it (a tokenizer). */
async function make(python: string, folder: string, model: string, { by, recipe, data }: Method, source: Source) {
  const { onnxPath, path } = taskOf(model, sizesOf(true), folder);
  const out = join(folder, model, 'peers', `${by}-${recipe}`, 'model.onnx');
  return once<Made>(join(folder, model, `${by}-${recipe}-made.json`), async () => {
    await rm(dirname(out), { recursive: true, force: true });
    await mkdir(dirname(out), { recursive: true });
    const beside = path === onnxPath ? [] : (await readdir(path)).filter((name) => name.endsWith('.json'));
    for (const name of beside) await copyFile(join(path, name), join(dirname(out), name));
    const printed = await output(python, [SCRIPT, by, recipe, onnxPath, data ? source.arrays : '', out]);
    const figures = JSON.parse(printed.trim().split('\n').at(-1) ?? '') as Pick<Made, 'seconds' | 'peakRssBytes'>;
    return JSON.stringify({ by, recipe, file: out, ...figures });
  });
}
