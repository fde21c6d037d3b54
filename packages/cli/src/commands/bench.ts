import { type BenchReport, bench as benchSession, benchText, type Latency } from '@flotilla/runtime';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { feedsOf, type OpenModel, openModelOrPack } from '../open-model.ts';
import { numberIn } from '../option-values.ts';
import { boardOption, threadsOption, trustOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { bytes, facts, ms, percent, table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly input: string | undefined;
  readonly prompt: readonly string[];
  readonly seconds: number;
  readonly threads: number;
  readonly board: string;
  readonly profile: boolean;
  readonly trust: string | undefined;
}

type Report = BenchReport & { readonly board: string; readonly text: TextReport | null; readonly thermal: null };

/** Of greedy answers, the first token (which reads the prompt) apart from the others. */
interface TextReport {
  readonly promptTokens: number;
  readonly timeToFirstTokenMs: number | null;
  readonly tokensPerSecond: number;
  readonly firstToken: Latency;
  readonly token: Latency;
  readonly overheadShare: number;
}

export const bench: CommandModule<Globals, Args> = {
  command: 'bench <model>',
  describe: 'Measure a model or pack here: cold start, latency, throughput, memory',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder with one, or pack' })
      .option('input', { type: 'string', describe: "Inputs as .npz; default: the pack's golden ones, else made up" })
      .option('prompt', {
        type: 'string',
        array: true,
        default: [],
        describe: "Prompts to measure text with; default: the pack's golden ones",
      })
      .option('seconds', {
        type: 'number',
        default: 3,
        coerce: numberIn('seconds', { least: 0.1, most: 86_400 }),
        describe: 'How long to measure',
      })
      .option('threads', threadsOption())
      .option('board', boardOption())
      .option('profile', { type: 'boolean', default: false, describe: 'Also time each operator' })
      .option('trust', trustOption())
      .example('flotilla bench labels.pack --seconds 10 --profile', 'with the operators that cost most'),
  async handler(argv) {
    const signal = untilInterrupted();
    const { seconds } = argv;
    const model = await openModelOrPack(argv.model, { ...argv, signal });
    try {
      const feeds = await feedsOf(model, argv.input);
      const { profile } = argv;
      const report = await benchSession(model.session, {
        feeds,
        seconds,
        profile,
        session: model.sessionOptions,
        signal,
      });
      const text = await textReport(model, argv.prompt, seconds, signal);
      print<Report>(argv, { ...report, board: model.board, text, thermal: null }, reportText);
    } finally {
      await model.close();
    }
  },
};

async function textReport(
  model: OpenModel,
  given: readonly string[],
  seconds: number,
  signal: AbortSignal,
): Promise<TextReport | null> {
  const own = await model.ownPrompts();
  const prompts = given.length > 0 ? given : (own ?? []);
  if (prompts.length === 0) return null;
  const { promptTokens, firstToken, token, tokensPerSecond, overheadShare } = await benchText(model.text(), {
    prompts,
    seconds,
    signal,
  });
  const p50Us = firstToken.summary().p50Us;
  return {
    promptTokens,
    timeToFirstTokenMs: p50Us === null ? null : p50Us / 1000,
    tokensPerSecond,
    firstToken: firstToken.summary(),
    token: token.summary(),
    overheadShare,
  };
}

function textRows(text: TextReport | null): readonly [string, string][] {
  if (text === null) return [];
  const { promptTokens, firstToken, token, tokensPerSecond, overheadShare } = text;
  const prompts = `prompts of ${promptTokens.toFixed(0)} tokens`;
  return [
    ['first token', `p50 ${ms(firstToken.p50Us)}  p95 ${ms(firstToken.p95Us)}  (${firstToken.count} ${prompts})`],
    ['next tokens', `p50 ${ms(token.p50Us)}  p95 ${ms(token.p95Us)}  ${tokensPerSecond.toFixed(1)} tokens/s`],
    ['', `${percent(overheadShare)} of the time outside of ONNX Runtime`],
  ];
}

function reportText({ machine, board, threads, coldStart, latency, throughputPerS, memory, operators, text }: Report) {
  const { p50Us, p90Us, p95Us, p99Us, maxUs, meanUs, ci95Us, count } = latency;
  const start = [coldStart.processMs, coldStart.loadMs, coldStart.firstMs].map((t) =>
    t === null ? '–' : `${t.toFixed(0)} ms`,
  );
  const rows: [string, string][] = [
    ['machine', `${machine.cpu}, ${machine.cores} cores, ${machine.os}, Node ${machine.node}`],
    ['board', `${board}, ${threads} thread(s)`],
    ['cold start', `process ${start[0]}, load ${start[1]}, first run ${start[2]}`],
    [
      'latency',
      `p50 ${ms(p50Us)}  p90 ${ms(p90Us)}  p95 ${ms(p95Us)}  p99 ${ms(p99Us)}  max ${ms(maxUs)}  mean ${ms(meanUs)}`,
    ],
    ['', `${count} runs; median between ${ms(ci95Us?.[0])} and ${ms(ci95Us?.[1])} (95 %)`],
    ['throughput', `${throughputPerS.toFixed(1)} runs/s`],
    ...textRows(text),
    [
      'memory',
      `peak RSS ${bytes(memory.peakRssBytes)}, PSS ${memory.pssBytes === null ? '–' : bytes(memory.pssBytes)}, weights ${bytes(memory.weightsBytes)}`,
    ],
  ];
  const profile =
    operators.length === 0
      ? ''
      : `\n\n${table(
          ['operator', 'op', 'µs', 'share'],
          operators.slice(0, 15).map((o) => [o.name, o.op, o.us.toFixed(0), percent(o.share)]),
        )}`;
  return facts(rows) + profile;
}
