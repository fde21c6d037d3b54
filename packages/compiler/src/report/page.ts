import { budgetSection } from './budget-section.ts';
import { distributionSections } from './distribution-sections.ts';
import { errorSection } from './error-section.ts';
import { escape, fold, section, table } from './html.ts';
import type { ReportData } from './report-data.ts';
import { STYLE } from './style.ts';
import { timeSection } from './time-section.ts';
import { verdictSections } from './verdict-section.ts';

/**
 * One self-contained page: verdict, error by node, time by node, distributions, what stayed float and why. No script,
 * no request, nothing but what is given: the same data gives the same bytes.
 */
export function reportPage(data: ReportData): string {
  const { report, machine } = data;
  const { model, pack } = report;
  const name = model.path.split('/').findLast((part) => part !== '') ?? model.path;
  const made = pack.digest === null ? pack.path : `${pack.path}, ${pack.digest}`;
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escape(name)}: Flotilla report</title><style>${STYLE}</style></head>
<body><main>
<h1>${escape(name)}</h1>
<p class="soft">${escape(made)}<br>compiled in ${report.seconds.toFixed(0)} s on ${escape(machine)}, kernels for ${escape(data.board)}</p>
${verdictSections(data)}${budgetSection(data)}${errorSection(data)}${timeSection(data)}${distributionSections(data)}${floatSection(data)}${section('Recipe', `<pre>${escape(report.recipe)}</pre>`)}</main></body></html>
`;
}

/** Reasons, most common first, each with its nodes. */
function floatSection({ report }: ReportData): string {
  const { nodes, float } = report;
  const byReason = new Map<string, { readonly ops: Set<string>; readonly nodes: string[] }>();
  for (const { node, op, reason } of float) {
    const entry = byReason.get(reason) ?? { ops: new Set<string>(), nodes: [] };
    entry.ops.add(op);
    entry.nodes.push(node);
    byReason.set(reason, entry);
  }
  const reasons = [...byReason].toSorted((a, b) => b[1].nodes.length - a[1].nodes.length);
  const rows = reasons.map(([reason, all]) => [reason, all.nodes.length, [...all.ops].join(', ')]);
  const each = float.map(({ node, op, reason }) => [node, op, reason]);
  return section(
    'What stays float, and why',
    `<p>${nodes.quantized} nodes are quantized, ${nodes.float} are not.</p>`,
    rows.length === 0 ? '' : table(['reason', '#nodes', 'operators'], rows),
    rows.length === 0 ? '' : fold(`all ${float.length} nodes`, table(['node', 'op', 'reason'], each)),
  );
}
