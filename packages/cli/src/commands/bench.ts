import { type BenchReport, bench as benchSession } from '@flotilla/runtime';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { feedsOf, openModelOrPack } from '../open-model.ts';
import { atLeast, boardOption, threadsOption, trustOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { bytes, facts, ms, percent, table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly input: string | undefined;
  readonly seconds: number;
  readonly threads: number;
  readonly board: string;
  readonly profile: boolean;
  readonly trust: string | undefined;
}

type Report = BenchReport & { readonly board: string; readonly thermal: null };

export const bench: CommandModule<Globals, Args> = {
  command: 'bench <model>',
  describe: 'Measure a model or pack here: cold start, latency, throughput, memory',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file or pack' })
      .option('input', { type: 'string', describe: "Inputs as .npz; default: the pack's golden ones, else made up" })
      .option('seconds', { type: 'number', default: 3, describe: 'How long to measure' })
      .option('threads', threadsOption())
      .option('board', boardOption())
      .option('profile', { type: 'boolean', default: false, describe: 'Also time each operator' })
      .option('trust', trustOption())
      .example('flotilla bench labels.pack --seconds 10 --profile', 'with the operators that cost most'),
  async handler(argv) {
    const signal = untilInterrupted();
    const seconds = atLeast('seconds', argv.seconds, 0.1);
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
      print<Report>(argv, { ...report, board: model.board, thermal: null }, benchText);
    } finally {
      await model.close();
    }
  },
};

function benchText({ machine, board, threads, coldStart, latency, throughputPerS, memory, operators }: Report): string {
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
