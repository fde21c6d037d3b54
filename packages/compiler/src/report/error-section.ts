import type { NodeError } from '../debug/compare-nodes.ts';
import { decibels, escape, figure, fold, key, section, table } from './html.ts';
import { errorPlot } from './plots.ts';
import type { ReportData } from './report-data.ts';

/** A value that is held exactly, or all but: nothing to draw. */
const EXACT_DB = 90;
const SHOWN = 10;

export function errorSection({ nodes, floorDb, nodeSamples, observedOn }: ReportData): string {
  const erring = nodes.filter(({ sqnrDb }) => sqnrDb !== null && sqnrDb < EXACT_DB);
  if (erring.length === 0) return '';
  const point = (n: NodeError, value: number | null) => ({
    y: value === null || value >= EXACT_DB ? null : Math.max(-60, value),
    title: `${n.op} ${n.node}: own ${decibels(n.ownDb)} dB, in all ${decibels(n.sqnrDb)} dB`,
  });
  const plot = errorPlot(
    erring.map((n) => point(n, n.sqnrDb)),
    erring.map((n) => point(n, n.ownDb)),
    floorDb,
  );
  const worst = nodes.toSorted((a, b) => (a.ownDb ?? Infinity) - (b.ownDb ?? Infinity)).slice(0, SHOWN);
  const rows = (list: readonly NodeError[]) =>
    list.map((n) => [n.node, n.op, n.tensor, decibels(n.ownDb), decibels(n.sqnrDb)]);
  const header = ['node', 'op', 'value', '#own dB', '#in all dB'];
  const exact = nodes.length - erring.length;
  return section(
    'Error by node',
    `<p>Signal to error of each node's value beside the cleaned fp32 model's, over ${nodeSamples} samples of ${escape(observedOn)}. A node's own error is what it errs when it is given fp32's values; in all, everything before it included.${exact > 0 ? ` ${exact} values are equal and not drawn.` : ''}</p>`,
    figure(
      plot,
      `${key('blue', "a node's own")} ${key('grey', 'in all')} ${key('red', `floor ${floorDb.toFixed(0)} dB: under it a node stands out`)}`,
    ),
    table(header, rows(worst)),
    fold(`all ${nodes.length} values, in the graph's order`, table(header, rows(nodes))),
  );
}
