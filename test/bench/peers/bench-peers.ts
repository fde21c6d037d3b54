import { copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { zoo } from '../../models/zoo.ts';
import { isNamed, sizesOf, takeSources, twoAtATime, withSpeeds, type ZooOptions } from '../zoo/bench-zoo.ts';
import { NOT_TAKEN, once, type Outcome } from '../zoo/kept.ts';
import { codeOf, dataKey, keyOf, scoreKey } from '../zoo/keys.ts';
import type { Line, Made, Row, Source } from '../zoo/row.ts';
import { bundleSteps, lastLine, output, Steps } from '../zoo/steps.ts';
import { taskOf } from '../zoo/tasks.ts';
import { root } from '../../tiers/run.ts';
import { type PeerEnvironment, peerEnvironment, PINS } from './environment.ts';

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
  { by: 'onnxruntime', recipe: 'nbits-rtn', needs: 'onnxruntime', data: false },
  // Its HQQ is written with torch, which Olive brings.
  { by: 'onnxruntime', recipe: 'nbits-hqq', needs: 'olive', data: false },
  { by: 'olive', recipe: 'static', needs: 'olive', data: true },
  { by: 'olive', recipe: 'dynamic', needs: 'olive', data: false },
  { by: 'aimet', recipe: 'ptq', needs: 'aimet', data: true },
];

const SCRIPTS = 'test/bench/peers/quantize';

/**
 * The same models by other tools, on the data of `benchZoo`, which ran before into the same folder.
 * @param environmentDir of the tools; null: only rows that are kept
 */
export async function benchPeers(options: ZooOptions, environmentDir: string | null): Promise<readonly Line[]> {
  const { quick, only, again, folder, say } = options;
  const environment = environmentDir === null ? null : await peerEnvironment(environmentDir, say);
  const isTaken = (model: string): boolean => environment !== null && isNamed(only)(model);
  const steps = new Steps(folder, await bundleSteps(), isTaken);
  const sizes = sizesOf(quick);
  const sources = await takeSources(steps, sizes, () => undefined);
  const data = await dataKey(sizes);
  const jobs = [...zoo.keys()].flatMap((model) => METHODS.map((method) => ({ model, method })));
  const made = await twoAtATime(jobs, async ({ model, method }): Promise<Line> => {
    const { by, recipe } = method;
    const source = sources.get(model);
    const key = keyOf([data, await methodKey(method)]);
    const line = { model, by, recipe, key, row: null, speeds: [] };
    if (!source?.answer) return { ...line, failed: source?.failed ?? NOT_TAKEN };
    const file = await make(
      { folder, model, method, key, again, source: source.answer },
      isTaken(model) ? environment : null,
    );
    const { metric } = taskOf(model, sizes, folder);
    const scored = await scoreKey(key, metric);
    const step = { model, step: 'judge', name: `${by}-${recipe}`, key: scored, keepFailures: true } as const;
    const judged = file.answer ? await steps.take<Row>(step, { sizes, made: file.answer }) : file;
    if (judged.failed !== NOT_TAKEN)
      say(`${model} ${by} ${recipe}${judged.failed === null ? '' : `: ${judged.failed}`}`);
    // What making it took may have been measured anew since.
    return { ...line, row: judged.answer && { ...judged.answer, ...file.answer }, failed: judged.failed };
  });
  return withSpeeds(
    steps,
    made.filter(({ failed }) => failed !== NOT_TAKEN),
    options,
  );
}

/** Of the tool: its version, and how we ask it. */
async function methodKey({ by, recipe, needs, data }: Method): Promise<string> {
  const scripts = ['main', 'source', `by_${by}`].map((name) => `${SCRIPTS}/${name}.py`);
  return keyOf([recipe, String(data), ...(PINS.get(needs) ?? []), await codeOf(scripts)]);
}

interface Job {
  readonly folder: string;
  readonly model: string;
  readonly method: Method;
  readonly key: string;
  readonly again: boolean;
  readonly source: Source;
}

/** Runs one tool in a process of its own; the file lies beside what its source has beside it (a tokenizer). */
async function make(
  { folder, model, method, key, again, source }: Job,
  environment: PeerEnvironment | null,
): Promise<Outcome<Made>> {
  const { by, recipe, needs, data } = method;
  const missing = environment?.missing.get(needs);
  if (missing !== undefined) return { answer: null, failed: missing };
  const { onnxPath, path } = taskOf(model, sizesOf(true), folder);
  const out = join(folder, model, 'peers', `${by}-${recipe}`, 'model.onnx');
  const keep = { file: join(folder, model, `${by}-${recipe}-made.json`), key, again, keepFailures: true };
  return once<Made>({ ...keep, knownOnly: environment === null }, async () => {
    await rm(dirname(out), { recursive: true, force: true });
    await mkdir(dirname(out), { recursive: true });
    const beside = path === onnxPath ? [] : (await readdir(path)).filter((name) => name.endsWith('.json'));
    for (const name of beside) await copyFile(join(path, name), join(dirname(out), name));
    const words = [join(root, SCRIPTS, 'main.py'), by, recipe, onnxPath, data ? source.arrays : '', out];
    // What they leave where they stand, they leave beside the file.
    const printed = await output(environment?.python ?? 'python3', words, { cwd: dirname(out) });
    const figures = JSON.parse(lastLine(printed)) as Pick<Made, 'seconds' | 'peakRssBytes'>;
    return { by, recipe, file: out, ...figures };
  });
}
