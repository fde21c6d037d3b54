import type { Line } from './row.ts';

const HEADER = [
  '| model | by | recipe | size | score, fp32 → quantized | kept | SQNR | speed, 1 thread | 2 threads | seconds | peak RSS |',
  '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
];

/** A table in Markdown, a row a line. */
export function tableOf(lines: readonly Line[]): readonly string[] {
  return [...HEADER, ...lines.map(rowOf)];
}

function rowOf({ model, by, recipe, row, speeds, failed }: Line): string {
  const names = [model, by, recipe];
  if (!row) return `| ${[...names, failed ?? '', ...Array.from({ length: 7 }, () => '')].join(' | ')} |`;
  const speed = (threads: number): string => {
    const found = speeds.find((one) => one.threads === threads);
    return found ? `${found.speedup.toFixed(2)} ×` : `– ${failed ?? ''}`;
  };
  const cells = [
    ...names,
    percent(row.ratio),
    scores(row.fp32, row.score, row.samples),
    percent(row.kept),
    row.sqnrDb === null ? '–' : `${row.sqnrDb.toFixed(1)} dB`,
    speed(1),
    speed(2),
    row.seconds.toFixed(1),
    `${(row.peakRssBytes / 1e6).toFixed(0)} MB`,
  ];
  return `| ${cells.join(' | ')} |`;
}

function scores(fp32: number, score: number, samples: number): string {
  const isCount = Number.isInteger(fp32) && Number.isInteger(score) && fp32 > 1;
  return isCount ? `${fp32} → ${score} of ${samples}` : `${fp32.toFixed(3)} → ${score.toFixed(3)}`;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
