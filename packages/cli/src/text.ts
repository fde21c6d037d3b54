import Table from 'cli-table3';

/** Rows under a header, aligned, without boxes: what terminals, mails and grep take alike. Numbers right, words left. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const none = '';
  const chars = {
    top: none,
    'top-mid': none,
    'top-left': none,
    'top-right': none,
    bottom: none,
    'bottom-mid': none,
    'bottom-left': none,
    'bottom-right': none,
    left: none,
    'left-mid': none,
    mid: none,
    'mid-mid': none,
    right: none,
    'right-mid': none,
    middle: '  ',
  };
  const numeric = header.map(
    (_, column) =>
      rows.length > 0 && rows.every((row) => /^[–\d.,]+( ?[%×a-zA-Zµ/]+)?$/.test(String(row[column] ?? '–'))),
  );
  const lines = new Table({
    head: [...header],
    chars,
    colAligns: numeric.map((right) => (right ? 'right' : 'left')),
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) lines.push(row.map(String));
  return lines
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}

/** Names and what is to say of each, without a header. */
export function facts(rows: readonly (readonly [string, string])[]): string {
  return table(['', ''], rows).replace(/^\s*\n/, '');
}

/** `12.3 MB`; decimal units, as file managers and model hubs count. */
export function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${units[unit]}`;
}

/** Microseconds as milliseconds, or – where the number of runs supports no such percentile. */
export function ms(us: number | null | undefined): string {
  return us === null || us === undefined ? '–' : `${(us / 1000).toFixed(us < 10_000 ? 2 : 1)} ms`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** ` (low to high)`, a 95 % interval; '' where there is none. */
export function range(interval: readonly [number, number] | null | undefined, text: (end: number) => string): string {
  return interval ? ` (${text(interval[0])} to ${text(interval[1])})` : '';
}

/** A histogram in one line; the fullest bin is a full block. */
export function sparkline(counts: readonly number[]): string {
  const blocks = ' ▁▂▃▄▅▆▇█';
  const most = Math.max(...counts, 1);
  return counts.map((count) => blocks[count === 0 ? 0 : Math.max(1, Math.round((count / most) * 8))]).join('');
}
