import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { compareLatency, compile } from '@flotilla/compiler';
import { type LoadedSession, openRuntime, openSession } from '@flotilla/runtime';
import { print } from '../../tiers/run.ts';
import { readAnswers, writeAnswers } from './answers-file.ts';
import { needsData, recipes } from './recipes.ts';
import type { Made, Row, Score, Source, Speed, StepOptions } from './row.ts';
import { scoreOf } from './score.ts';
import type { Task } from './task.ts';
import { taskOf } from './tasks.ts';

// One step with one model in a process of its own, so that memory is its own and a failure stops nothing else:
// step-main.ts MODEL FOLDER fp32|compile|judge|speed OPTIONS. Prints one line of JSON.

const [model = '', folder = '', step = '', text = '{}'] = process.argv.slice(2);
const options = JSON.parse(text) as StepOptions;
const { sizes } = options;
await mkdir(folder, { recursive: true });
const task = taskOf(model, sizes, folder);
print(JSON.stringify(await take()));

async function take(): Promise<unknown> {
  switch (step) {
    case 'fp32':
      return judgeSource();
    case 'compile':
      return compileBy(task, options.recipe ?? '');
    case 'judge':
      return options.made && judgeFile(task, options.made);
    case 'speed':
      return speedOf(options.file ?? '');
    default:
      throw new Error(`no step ${step}`);
  }
}

/** @returns where `--data` points to */
async function judgeSource(): Promise<Source> {
  const { onnxPath, path } = task;
  const data = await task.calibrate(folder);
  const session = await openSession(onnxPath);
  try {
    await writeAnswers(join(folder, 'answers'), await task.judge({ path, session }));
  } finally {
    await session.close();
  }
  return { data, arrays: (await task.arrays?.(folder)) ?? data, bytes: (await stat(onnxPath)).size };
}

async function compileBy({ path, metric }: Task, recipe: string): Promise<Row> {
  const pack = join(folder, `${recipe}.pack`);
  await rm(pack, { force: true });
  const data = needsData(recipe) ? { data: options.data } : {};
  const report = await compile(path, pack, {
    ...recipes.get(recipe),
    ...data,
    latencySeconds: 0,
    floor: 0,
    force: true,
  });
  const { seconds, peakRssBytes, nodes, warnings, ratio } = report;
  const bytes = report.pack.modelBytes;
  return {
    model,
    by: 'flotilla',
    recipe,
    metric,
    file: pack,
    bytes,
    ratio,
    nodes,
    seconds,
    peakRssBytes,
    warnings,
    ...(await score(pack)),
  };
}

/** What a peer made. */
async function judgeFile({ onnxPath, metric }: Task, made: Made): Promise<Row> {
  const bytes = (await stat(made.file)).size;
  const ratio = bytes / (await stat(onnxPath)).size;
  return { model, ...made, metric, bytes, ratio, nodes: null, warnings: [], ...(await score(made.file)) };
}

async function score(file: string): Promise<Score> {
  const opened = await open(file, 1);
  try {
    return scoreOf(
      task,
      await task.judge({ path: file, session: opened.session }),
      await readAnswers(join(folder, 'answers')),
    );
  } finally {
    await opened.close();
  }
}

async function speedOf(file: string): Promise<readonly Speed[]> {
  const speeds: Speed[] = [];
  for (const threads of [1, 2]) {
    const source = await openSession(task.onnxPath, { threads });
    const opened = await open(file, threads);
    const { speedup, interval, quantized } = await compareLatency(
      source,
      opened.session,
      (inputs) => task.feeds(inputs),
      {
        seconds: sizes.speedSeconds,
      },
    );
    speeds.push({ threads, speedup, interval, p50Us: quantized.p50Us });
    await opened.close();
    await source.close();
  }
  return speeds;
}

async function open(
  file: string,
  threads: number,
): Promise<{ readonly session: LoadedSession; close(): Promise<void> }> {
  if (file.endsWith('.pack')) return openRuntime(file, { threads, isolate: false });
  const session = await openSession(file, { threads });
  return { session, close: () => session.close() };
}
