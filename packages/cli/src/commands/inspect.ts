import { type InspectReport, inspect as inspectModel, type Outlier, type TensorReport } from '@flotilla/compiler';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { numberIn } from '../option-values.ts';
import { preprocessOption } from '../options.ts';
import { type Globals, print } from '../output.ts';
import { progressBar } from '../progress.ts';
import { bytes, facts, percent, sparkline, table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly all: boolean;
  readonly data: string | undefined;
  readonly preprocess: string | undefined;
  readonly samples: number;
  readonly channels: boolean;
}

export const inspect: CommandModule<Globals, Args> = {
  command: 'inspect <model>',
  describe: 'Show what is in a model: operators, memory by layer, weight distributions, what quantizing would save',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder or pack' })
      .option('all', { type: 'boolean', default: false, describe: 'Every tensor and node, not only the largest' })
      .option('data', { type: 'string', describe: 'Samples to watch the activations on, PATH[:N]' })
      .option('preprocess', preprocessOption())
      .option('samples', {
        type: 'number',
        default: 16,
        coerce: numberIn('samples', { least: 1, whole: true }),
        describe: 'Samples that are run at most',
      })
      .option('channels', { type: 'boolean', default: false, describe: "Each channel's own figures in the --json" })
      .example('flotilla inspect model.onnx', 'weights: nothing is changed, tensors are read one at a time')
      .example('flotilla inspect rec.onnx --data calibrate/:8', 'activations too, their outliers by name'),
  async handler(argv) {
    const { model, data, preprocess, samples, channels } = argv;
    const bar = progressBar(argv);
    try {
      const report = await inspectModel(model, {
        data,
        preprocess,
        samples,
        channels,
        signal: untilInterrupted(),
        onProgress: (progress) => bar.update(progress),
      });
      bar.end();
      print(argv, report, (r) => inspectText(r, argv.all ? Number.POSITIVE_INFINITY : SHOWN));
    } finally {
      bar.end();
    }
  },
};

const SHOWN = 16;

function inspectText(report: InspectReport, most: number): string {
  const { ops, layers, tensors, plan } = report;
  const saved = plan.reduce((sum, entry) => sum + entry.saves, 0);
  const ports = (list: InspectReport['inputs']) =>
    list.map(({ name, dtype, dims }) => `${name} ${dtype} [${dims.join(', ')}]`).join('; ');
  return [
    facts([
      ['model', `${report.path}, ${bytes(report.bytes)}, ${report.parameters} parameters, opset ${report.opset}`],
      ['inputs', ports(report.inputs)],
      ['outputs', ports(report.outputs)],
      [
        'operators',
        Object.entries(ops)
          .map(([op, count]) => `${op} ${count}`)
          .join(', '),
      ],
      ['int4 would save', `${bytes(saved)} of ${bytes(report.bytes)} (${percent(saved / Math.max(1, report.bytes))})`],
    ]),
    section(
      'memory by layer',
      layers.length,
      most,
      table(
        ['layer', 'weights'],
        layers.slice(0, most).map((l) => [l.layer, bytes(l.bytes)]),
      ),
    ),
    section('largest tensors', tensors.length, most, tensorTable(tensors.slice(0, most))),
    ...outlierSection('outliers in weights', tensors, most),
    ...activationSections(report, most),
    section(
      'plan',
      plan.length,
      most,
      table(
        ['node', 'op', 'format', 'saves', 'reason'],
        plan.slice(0, most).map((p) => [p.node, p.op, p.format ?? 'float', bytes(p.saves), p.reason]),
      ),
    ),
  ].join('\n\n');
}

/** The activations that int8 would hold worst come first: they are what a person looks for. */
function activationSections({ activations }: InspectReport, most: number): string[] {
  if (!activations) return [];
  const { samples, values } = activations;
  const worst = values.toSorted((a, b) => (a.sqnrDb.int8 ?? 999) - (b.sqnrDb.int8 ?? 999));
  const rows = worst
    .slice(0, most)
    .map((v) => [
      v.name,
      v.op,
      sparkline(v.histogram),
      `${v.min.toPrecision(3)} … ${v.max.toPrecision(3)}`,
      v.std.toPrecision(3),
      v.kurtosis?.toFixed(0) ?? '–',
      percent(v.sparsity),
      deadOf(v),
      v.outliers,
      decibels(v.sqnrDb.int8),
      decibels(v.sqnrDb.int8Clipped),
    ]);
  const header = ['value', 'op', 'distribution', 'range', 'std', 'kurtosis', 'zero', 'dead', 'outliers', 'int8 dB'];
  const title = `activations over ${samples} samples, those first that one interval of int8 holds worst`;
  return [
    section(title, values.length, most, table([...header, 'clipped'], rows)),
    ...outlierSection('outliers in activations', values, most),
  ];
}

interface WithOutliers {
  readonly name: string;
  readonly node: string;
  readonly farthest: readonly Outlier[];
}

/** Which tensor, which channel, which value. */
function outlierSection(title: string, tensors: readonly WithOutliers[], most: number): string[] {
  const all = tensors.flatMap(({ name, node, farthest }) => farthest.map((outlier) => ({ name, node, outlier })));
  if (all.length === 0) return [];
  const rows = all
    .toSorted((a, b) => b.outlier.sigmas - a.outlier.sigmas)
    .slice(0, most)
    .map(({ name, node, outlier: { at, channel, sample, value, sigmas } }) => [
      name,
      node,
      channel ?? '–',
      `[${at.join(', ')}]${sample === null ? '' : ` of sample ${sample}`}`,
      value.toPrecision(4),
      sigmas.toFixed(0),
    ]);
  return [section(title, all.length, most, table(['tensor', 'node', 'channel', 'at', 'value', 'σ'], rows))];
}

function deadOf({ channels }: { readonly channels: TensorReport['channels'] }): string {
  return channels === null ? '–' : `${channels.dead.length}/${channels.count}`;
}

function section(title: string, count: number, most: number, body: string): string {
  return `${title}${count > most ? ` (${most} of ${count}; --all shows the rest)` : ''}\n${body}`;
}

function tensorTable(tensors: readonly TensorReport[]): string {
  const rows = tensors.map((t) => [
    t.node || t.name,
    t.shape.join('×'),
    bytes(t.bytes),
    sparkline(t.histogram),
    `${t.min.toPrecision(3)} … ${t.max.toPrecision(3)}`,
    t.std.toPrecision(3),
    t.kurtosis?.toFixed(1) ?? '–',
    percent(t.sparsity),
    deadOf(t),
    t.outliers,
    decibels(t.sqnrDb.int8),
    decibels(t.sqnrDb.int4),
  ]);
  const header = ['of node', 'shape', 'bytes', 'distribution', 'range', 'std', 'kurtosis', 'zero', 'dead', 'outliers'];
  return table([...header, 'int8 dB', 'int4 dB'], rows);
}

function decibels(value: number | null): string {
  return value === null ? '–' : value.toFixed(1);
}
