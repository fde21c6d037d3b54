import { escape, short } from './html.ts';

/** Inline SVG; colours are classes of the page's style. Coordinates have one decimal: the same data, the same bytes. */
function svg(width: number, height: number, label: string, body: string): string {
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${escape(label)}">${body}</svg>`;
}

const at = (value: number): string => String(Math.round(value * 10) / 10);

function rect(x: number, y: number, width: number, height: number, colour: string, title = ''): string {
  const inside = title === '' ? '' : `<title>${escape(title)}</title>`;
  return `<rect x="${at(x)}" y="${at(y)}" width="${at(Math.max(0, width))}" height="${at(Math.max(0, height))}" class="${colour}">${inside}</rect>`;
}

function text(x: number, y: number, words: string, kind = ''): string {
  return `<text x="${at(x)}" y="${at(y)}"${kind === '' ? '' : ` class="${kind}"`}>${escape(words)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, kind: string): string {
  return `<line x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}" class="${kind}"/>`;
}

export interface HistogramData {
  readonly histogram: readonly number[];
  readonly min: number;
  readonly max: number;
  /** The interval that the integers cover. */
  readonly range?: { readonly min: number; readonly max: number } | undefined;
}

/** Counts on a square-root scale, so that tails show; the chosen range between two lines, what is cut off in red. */
export function histogramPlot({ histogram, min, max, range }: HistogramData): string {
  const [width, height, base] = [220, 84, 66];
  const low = Math.min(min, range?.min ?? min);
  const high = Math.max(max, range?.max ?? max);
  const x = (value: number): number => (high > low ? ((value - low) / (high - low)) * width : width / 2);
  const most = Math.max(1, ...histogram);
  const step = (max - min) / histogram.length;
  const bars = histogram.map((count, i) => {
    if (count === 0) return '';
    const tall = Math.max(1, Math.sqrt(count / most) * (base - 6));
    const middle = min + (i + 0.5) * step;
    const outside = range !== undefined && (middle > range.max || middle < range.min);
    const wide = high > low ? (step / (high - low)) * width : width;
    return rect(x(min + i * step), base - tall, Math.max(1, wide - 0.5), tall, outside ? 'red' : 'blue');
  });
  const cuts = range
    ? [range.min, range.max].map((value) => line(x(value), 2, x(value), base, 'line amber dash')).join('')
    : '';
  const ends = text(0, height - 4, short(low), 'soft') + text(width, height - 4, short(high), 'soft end');
  const middle = x(0);
  const zero =
    low < 0 && high > 0
      ? line(middle, base, middle, base + 4, 'axis') +
        (middle > 55 && middle < width - 55 ? text(middle, height - 4, '0', 'soft mid') : '')
      : '';
  return svg(width, height, 'histogram', bars.join('') + line(0, base, width, base, 'axis') + cuts + ends + zero);
}

export interface Bar {
  readonly label: string;
  /** One value a series. */
  readonly values: readonly { readonly value: number; readonly colour: string; readonly note: string }[];
}

/** Horizontal bars in groups, from zero. */
export function barPlot(bars: readonly Bar[], label: string): string {
  const [width, left, right, thick] = [900, 190, 165, 13];
  const most = Math.max(1e-12, ...bars.flatMap(({ values }) => values.map(({ value }) => value)));
  let y = 4;
  const body = bars.map((bar) => {
    const top = y;
    const drawn = bar.values.map(({ value, colour, note }) => {
      const wide = (value / most) * (width - left - right);
      const one = rect(left, y, Math.max(1, wide), thick - 2, colour) + text(left + wide + 6, y + 10, note, 'soft');
      y += thick;
      return one;
    });
    const name = text(left - 10, (top + y) / 2 + 3, clip(bar.label, 28), 'end');
    y += 9;
    return name + drawn.join('');
  });
  return svg(width, y, label, body.join(''));
}

export interface Point {
  /** Null: exact, and not drawn. */
  readonly y: number | null;
  readonly title: string;
}

/** Decibels over the nodes in order: a line for what has piled up, dots for each node's own error. */
export function errorPlot(all: readonly Point[], own: readonly Point[], floor: number): string {
  const [width, height, left, base] = [900, 250, 42, 222];
  const values = [...all, ...own].flatMap(({ y }) => (y === null ? [] : [y]));
  const low = Math.min(0, Math.floor(Math.min(floor, ...values) / 10) * 10);
  const high = Math.max(40, Math.ceil(Math.max(0, ...values) / 10) * 10);
  const x = (i: number): number => left + ((i + 0.5) / Math.max(1, all.length)) * (width - left - 6);
  const y = (value: number): number => base - ((value - low) / (high - low)) * (base - 8);
  const grid: string[] = [];
  const gap = high - low > 80 ? 20 : 10;
  for (let value = low; value <= high; value += gap)
    grid.push(line(left, y(value), width, y(value), 'axis'), text(left - 6, y(value) + 4, String(value), 'soft end'));
  const path = all.map((point, i) => `${i === 0 ? 'M' : 'L'}${at(x(i))} ${at(y(point.y ?? high))}`).join('');
  const dots = own.map((point, i) =>
    point.y === null
      ? ''
      : `<circle cx="${at(x(i))}" cy="${at(y(point.y))}" r="3" class="${point.y < floor ? 'red' : 'blue'}"><title>${escape(point.title)}</title></circle>`,
  );
  const bound = line(left, y(floor), width, y(floor), 'line red dash');
  const foot =
    text(left, height - 6, 'first node', 'soft') +
    text(width, height - 6, 'last', 'soft end') +
    text(2, 12, 'dB', 'soft');
  return svg(
    width,
    height,
    'error by node',
    `${grid.join('')}<path d="${path}" class="line grey"/>${dots.join('')}${bound}${foot}`,
  );
}

/** A share with its interval and the floor it must hold. */
export function intervalPlot(value: number, interval: readonly [number, number] | null, floor: number): string {
  const [width, height, y] = [420, 56, 22];
  const low = Math.min(floor, value, interval?.[0] ?? value);
  const high = Math.max(1, value, interval?.[1] ?? value);
  const pad = Math.max(0.005, (high - low) * 0.08);
  const x = (share: number): number => 10 + ((share - low + pad) / (high - low + 2 * pad)) * (width - 20);
  const span = interval
    ? `${line(x(interval[0]), y, x(interval[1]), y, 'line blue')}${interval.map((end) => line(x(end), y - 6, x(end), y + 6, 'line blue')).join('')}`
    : '';
  const dot = `<circle cx="${at(x(value))}" cy="${y}" r="5" class="blue"/>`;
  const bound =
    line(x(floor), 6, x(floor), 36, 'line red dash') +
    text(x(floor), 50, `floor ${(100 * floor).toFixed(0)} %`, 'soft mid');
  const whole =
    line(x(1), 6, x(1), 36, 'line grey dash') + (x(1) - x(floor) > 90 ? text(x(1), 50, '100 %', 'soft mid') : '');
  return svg(width, height, 'kept share with its interval', whole + bound + span + dot);
}

export interface FrontPoint {
  readonly x: number;
  readonly y: number;
  readonly label: string;
  readonly onFront: boolean;
  readonly chosen: boolean;
}

/** What was tried, size against loss: the front as a line, the chosen point filled green. */
export function frontPlot(points: readonly FrontPoint[], names: { readonly x: string; readonly y: string }): string {
  const [width, height, left, base] = [900, 300, 60, 256];
  const xs = points.map((p) => p.x);
  const ys = points.map((p) => p.y);
  const [x0, x1, y0, y1] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const x = (value: number): number => left + 12 + ((value - x0) / (x1 - x0 || 1)) * (width - left - 40);
  const y = (value: number): number => base - 12 - ((value - y0) / (y1 - y0 || 1)) * (base - 36);
  const front = points.filter(({ onFront }) => onFront).toSorted((a, b) => a.x - b.x);
  const path = front.map((p, i) => `${i === 0 ? 'M' : 'L'}${at(x(p.x))} ${at(y(p.y))}`).join('');
  const dots = points.map(
    (p) =>
      `<circle cx="${at(x(p.x))}" cy="${at(y(p.y))}" r="${p.chosen ? 6 : 3.5}" class="${p.chosen ? 'green' : p.onFront ? 'blue' : 'grey'}"><title>${escape(p.label)}</title></circle>`,
  );
  const axes = line(left, base, width, base, 'axis') + line(left, 8, left, base, 'axis');
  const ends =
    text(left, base + 16, short(x0), 'soft') +
    text(width, base + 16, short(x1), 'soft end') +
    text(left - 6, y(y0) + 4, short(y0), 'soft end') +
    text(left - 6, y(y1) + 4, short(y1), 'soft end');
  const titles = text((left + width) / 2, height - 6, names.x, 'soft mid') + text(left + 6, 14, names.y, 'soft');
  return svg(
    width,
    height,
    'Pareto front',
    `${axes}<path d="${path}" class="line blue"/>${dots.join('')}${ends}${titles}`,
  );
}

function clip(words: string, most: number): string {
  return words.length > most ? `…${words.slice(1 - most)}` : words;
}
