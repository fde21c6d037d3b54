import { type InspectReport, inspect as inspectModel, type TensorReport } from '@flotilla/compiler';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { type Globals, print } from '../output.ts';
import { bytes, facts, percent, sparkline, table } from '../text.ts';

interface Args extends Globals {
  readonly model: string;
  readonly all: boolean;
}

export const inspect: CommandModule<Globals, Args> = {
  command: 'inspect <model>',
  describe: 'Show what is in a model: operators, memory by layer, weight distributions, what quantizing would save',
  builder: (args) =>
    args
      .positional('model', { type: 'string', demandOption: true, describe: '.onnx file, folder or pack' })
      .option('all', { type: 'boolean', default: false, describe: 'Every tensor and node, not only the largest' })
      .example('flotilla inspect model.onnx', 'nothing is changed; a 1.9 GB model opens in under a second'),
  async handler(argv) {
    const report = await inspectModel(argv.model, { signal: untilInterrupted() });
    print(argv, report, (r) => inspectText(r, argv.all ? Number.POSITIVE_INFINITY : SHOWN));
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
    t.outliers,
    decibels(t.sqnrDb.int8),
    decibels(t.sqnrDb.int4),
  ]);
  return table(['of node', 'shape', 'bytes', 'distribution', 'range', 'std', 'outliers', 'int8 dB', 'int4 dB'], rows);
}

function decibels(value: number | null): string {
  return value === null ? '–' : value.toFixed(1);
}
