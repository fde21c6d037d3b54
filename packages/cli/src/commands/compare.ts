import { compare as compareBoth, type CompareReport, type ComparedSide } from '@flotilla/compiler';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { numberIn } from '../option-values.ts';
import { threadsOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { type Progress, progressBar } from '../progress.ts';
import { bytes, ms, percent, table } from '../text.ts';

interface Args extends Globals {
  readonly a: string;
  readonly b: string;
  readonly seconds: number;
  readonly threads: number;
  readonly all: boolean;
}

export const compare: CommandModule<Globals, Args> = {
  command: 'compare <a> <b>',
  describe: 'Show two packs, models or reports side by side',
  builder: (args) =>
    args
      .positional('a', { type: 'string', demandOption: true, describe: '.onnx file, folder, pack, or compile --json' })
      .positional('b', { type: 'string', demandOption: true, describe: 'The other one' })
      .option('seconds', {
        type: 'number',
        default: 0.2,
        coerce: numberIn('seconds', { least: 0, most: 3600 }),
        describe: 'To measure each in each of five rounds; 0: not',
      })
      .option('threads', threadsOption())
      .option('all', { type: 'boolean', default: false, describe: 'Every weight that differs' })
      .example('flotilla compare rec.onnx labels.pack', 'what became of each weight, and what it brought')
      .example('flotilla compare int8.json int4.json', 'two reports of compile --json'),
  async handler({ a, b, seconds, threads, all, ...argv }) {
    const bar = progressBar(argv);
    const onProgress = (progress: Progress): void => bar.update(progress);
    const report = await compareBoth(a, b, { seconds, threads, signal: untilInterrupted(), onProgress }).finally(() =>
      bar.end(),
    );
    print(argv, report, (r) => compareText(r, all ? Number.POSITIVE_INFINITY : SHOWN));
  },
};

const SHOWN = 20;

function compareText(report: CompareReport, most: number): string {
  const { a, b, ratio, latency, tensors } = report;
  const row = (name: string, of: (side: ComparedSide) => string): string[] => [name, of(a), of(b)];
  const formats = new Set([...Object.keys(a.formats), ...Object.keys(b.formats)]);
  const sides = table(
    ['', a.path, b.path],
    [
      row('kind', (side) => `${side.kind}${side.recipe === null ? '' : `, ${side.recipe}`}`),
      row('model', (side) => bytes(side.modelBytes)),
      row('verdict', verdictOf),
      row('nodes', ({ nodes }) => (nodes ? `${nodes.quantized} quantized, ${nodes.float} float` : '–')),
      row('median run', ({ p50Us }) => ms(p50Us)),
      ...[...formats].map((format) =>
        row(format, ({ formats: all }) =>
          all[format] ? `${all[format].nodes} weights, ${bytes(all[format].bytes)}` : '–',
        ),
      ),
    ],
  );
  const range = latency?.interval ? ` (${latency.interval.map((end) => `${end.toFixed(2)}×`).join(' to ')})` : '';
  const speed = latency ? `, ${latency.speedup.toFixed(2)}× as fast${range}` : '';
  const changed = tensors
    .slice(0, most)
    .map((t) => [
      t.node,
      t.op,
      t.a ? `${t.a.format}, ${bytes(t.a.bytes)}` : '–',
      t.b ? `${t.b.format}, ${bytes(t.b.bytes)}` : '–',
      t.sqnrDb === null ? '–' : t.sqnrDb.toFixed(1),
    ]);
  const title = `weights that differ${tensors.length > most ? ` (${most} of ${tensors.length}; --all shows the rest)` : ''}`;
  const weights = tensors.length === 0 ? '' : `\n\n${title}\n${table(['node', 'op', 'a', 'b', 'dB'], changed)}`;
  return `${sides}\n\nb is ${percent(ratio)} of a's size${speed}${weights}`;
}

function verdictOf({ verdict }: ComparedSide): string {
  if (!verdict) return '–';
  const { ok, metric, kept, interval, samples } = verdict;
  const range = interval ? ` (${interval.map(percent).join(' to ')})` : '';
  return `${ok ? 'yes' : 'NO'}: ${percent(kept)} of ${metric}${range} on ${samples}`;
}
