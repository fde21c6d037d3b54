import { type CompileReport } from '@flotilla/compiler';
import {
  benchText,
  compareWithBare,
  type Generation,
  openRuntime,
  profileOperators,
  type Runtime,
  type Tensors,
} from '@flotilla/runtime';
import { type Build, commands, compileBuild } from '../models/builds.ts';
import { commandSchema, isCommand } from '../models/command-schema.ts';
import { speedFeeds } from '../models/feeds.ts';

export interface BuildFigures {
  readonly model: string;
  readonly weights: string;
  readonly fp32Bytes: number;
  readonly modelBytes: number;
  readonly ratio: number;
  readonly metric: string;
  readonly samples: number;
  readonly fp32: number;
  readonly quantized: number;
  readonly kept: number;
  readonly fp32P50Us: number;
  readonly p50Us: number;
  readonly speedup: number;
  /** What our runtime adds to ONNX Runtime on the same lowered file: ours / bare − 1, medians, turn about. */
  readonly overhead: number;
  /** Of one run, by operator, the greatest first. */
  readonly operators: readonly { readonly op: string; readonly nodes: number; readonly share: number }[];
  /** Text only. */
  readonly text: TextFigures | null;
  /** In words, what is under its floor. */
  readonly misses: readonly string[];
}

/** Greedy answers of the language model. */
interface TextFigures {
  /** One prompt at a time, each read afresh. */
  readonly tokensPerSecond: number;
  readonly timeToFirstTokenUs: number;
  readonly tokenP50Us: number;
  readonly tokenP95Us: number | null;
  /** Of the time, what passed outside of ONNX Runtime. */
  readonly overheadShare: number;
  /** All commands, asked for without a schema and with one. */
  readonly commands: number;
  readonly right: number;
  readonly rightBySchema: number;
  readonly validBySchema: number;
}

/** Compiles one build, judged on evaluation data, and measures what came out. All at one thread. */
export async function measureBuild(build: Build, dataDir: string, out: string): Promise<BuildFigures> {
  const report = await compileBuild(build, dataDir, out, { threads: 1 });
  const { verdict, latency } = report;
  if (verdict === null || latency === null) throw new Error(`${build.model} was not judged`);
  const runtime = await openRuntime(out, { threads: 1, isolate: false });
  try {
    const feeds = speedFeeds(build.model, runtime.session.inputs);
    const overhead = await overheadOf(runtime, feeds[0] ?? {});
    const figures = {
      model: build.model,
      weights: build.weights,
      fp32Bytes: report.model.bytes,
      modelBytes: report.pack.modelBytes,
      ratio: report.ratio,
      metric: verdict.metric,
      samples: verdict.samples,
      fp32: verdict.fp32,
      quantized: verdict.quantized,
      kept: verdict.kept,
      fp32P50Us: latency.fp32.p50Us,
      p50Us: latency.quantized.p50Us,
      speedup: latency.speedup,
      overhead,
      operators: await timeByOperator(runtime, feeds),
      text: build.model === 'commands' ? await measureText(runtime, verdict.samples) : null,
    };
    const misses = missesOf(build, report, overhead, runtime.board.boardClass);
    return { ...figures, misses: [...misses, ...textMisses(figures.text)] };
  } finally {
    await runtime.close();
  }
}

/** The median of five comparisons: what else the machine does makes a single one swing by more than it is to show. */
async function overheadOf(runtime: Runtime, feeds: Tensors): Promise<number> {
  const found: number[] = [];
  for (let round = 0; round < 5; round++) {
    // A step of the language model takes half a millisecond.
    const options = { ...runtime.sessionOptions, runs: runtime.pack.config.task === 'text' ? 500 : 50 };
    found.push((await compareWithBare(runtime.session.modelPath, feeds, options)).overhead);
  }
  return found.toSorted((a, b) => a - b)[2] ?? Number.NaN;
}

async function timeByOperator(runtime: Runtime, feeds: readonly Tensors[]): Promise<BuildFigures['operators']> {
  const times = await profileOperators(runtime.session.modelPath, feeds, runtime.sessionOptions);
  const byOp = new Map<string, { nodes: number; share: number }>();
  for (const { op, share } of times) {
    const sum = byOp.get(op) ?? { nodes: 0, share: 0 };
    byOp.set(op, { nodes: sum.nodes + 1, share: sum.share + share });
  }
  return [...byOp].map(([op, sum]) => ({ op, ...sum })).toSorted((a, b) => b.share - a.share);
}

async function measureText(runtime: Runtime, count: number): Promise<TextFigures> {
  const asked = await commands(count);
  const prompts = asked.map(({ prompt }) => prompt);
  const text = runtime.text();
  const { token, firstToken, tokensPerSecond, overheadShare } = await benchText(text, { prompts, maxTokens: 64 });
  const free = await text.generateAll(prompts);
  const kept = await text.generateAll(prompts, { schema: commandSchema });
  const right = (made: readonly Generation[]) =>
    made.filter((one, i) => one.text.trim() === asked[i]?.completion.trim()).length;
  return {
    tokensPerSecond,
    timeToFirstTokenUs: firstToken.summary().p50Us ?? Number.NaN,
    tokenP50Us: token.summary().p50Us ?? Number.NaN,
    tokenP95Us: token.summary().p95Us,
    overheadShare,
    commands: asked.length,
    right: right(free),
    rightBySchema: right(kept),
    validBySchema: kept.filter((one) => isCommand(one.text)).length,
  };
}

function textMisses(text: TextFigures | null): readonly string[] {
  if (text === null) return [];
  const { commands: count, right, rightBySchema, validBySchema } = text;
  const misses: string[] = [];
  if (validBySchema < count) misses.push(`${count - validBySchema} answers are not what their schema says`);
  if (rightBySchema < right) misses.push(`${rightBySchema} right answers by schema, ${right} without one`);
  return misses;
}

/** The floors are for x86 with VNNI where they speak of speed. */
function missesOf({ floors }: Build, report: CompileReport, overhead: number, boardClass: string): readonly string[] {
  const percent = (value: number) => `${(100 * value).toFixed(1)} %`;
  const misses: string[] = [];
  const kept = report.verdict?.kept ?? 0;
  if (report.ratio > floors.ratio)
    misses.push(`${percent(report.ratio)} of the fp32 file, not ${percent(floors.ratio)}`);
  if (kept < floors.kept) misses.push(`keeps ${percent(kept)} of fp32's answers, not ${percent(floors.kept)}`);
  const speedup = report.latency?.speedup ?? 0;
  if (boardClass === 'x64-vnni' && speedup < (floors.speedup ?? 0))
    misses.push(`${speedup.toFixed(2)} times as fast as fp32, not ${floors.speedup}`);
  if (overhead > 0.03) misses.push(`our runtime is ${percent(overhead)} slower than bare ONNX Runtime, not 3 %`);
  return misses;
}
