import type { Line, Row } from '../zoo/row.ts';
import { reasons } from './reasons.ts';

/** What both are compared by: a smaller share of the source file, more of fp32's score, and speed at one thread. */
interface Figures {
  readonly size: number;
  readonly kept: number;
  readonly speed: number;
}

const COLUMNS = ['size', 'kept', 'speed'] as const;

/** Below, a result is of no use, whatever its size: the compiler's own floor. */
export const FLOOR = 0.98;

/** Differences that count as none: of size and speed their share, of what is kept the difference. */
export const EQUAL: Figures = { size: 0.01, kept: 0.005, speed: 0.05 };

/** A peer's result that no row of ours equals in all columns at once. */
export interface Ahead {
  readonly peer: Line;
  /** Ours that is the nearest; null: none of ours keeps enough. */
  readonly ours: Line | null;
  /** In which the peer is ahead of the nearest. */
  readonly columns: readonly (keyof Figures)[];
  /** Recipes of ours than whose result the peer's is smaller, faster and as accurate. */
  readonly beaten: readonly string[];
  /** Whether that is each of them. */
  readonly beatsAll: boolean;
}

/** A peer's useful results that ours do not cover. Both were taken on the same data; a model at a time. */
export function peersAhead(zoo: readonly Line[], peers: readonly Line[]): readonly Ahead[] {
  return peers.flatMap((peer): readonly Ahead[] => {
    const figures = figuresOf(peer);
    if (!figures || figures.kept < FLOOR) return [];
    const leads = zoo
      .filter(({ model }) => model === peer.model)
      .flatMap((ours) => {
        const own = figuresOf(ours);
        return own && own.kept >= FLOOR - EQUAL.kept ? [{ ours, lead: leadOf(figures, own) }] : [];
      })
      .toSorted((a, b) => worst(a.lead) - worst(b.lead));
    const [nearest] = leads;
    const columns = nearest ? COLUMNS.filter((column) => nearest.lead[column] > 1) : COLUMNS;
    const beaten = leads.filter(({ lead }) => lead.size > 1 && lead.speed > 1 && lead.kept >= -1);
    if (columns.length === 0) return [];
    return [
      {
        peer,
        ours: nearest?.ours ?? null,
        columns,
        beaten: beaten.map(({ ours }) => ours.recipe),
        beatsAll: beaten.length === leads.length,
      },
    ];
  });
}

interface Measured extends Figures {
  /** Of the speed. */
  readonly interval: readonly [number, number];
}

function figuresOf({ row, speeds }: Line): Measured | null {
  const one = speeds.find(({ threads }) => threads === 1);
  return row === null || !one ? null : { size: row.ratio, kept: row.kept, speed: one.speedup, interval: one.interval };
}

/** How far the peer is before us, a column at a time, in units of what counts as equal. */
function leadOf(peer: Measured, ours: Measured): Figures {
  // Steps of a tenth of a millisecond swing by more than 5 %: two speeds that may be one are equal.
  const isOne = peer.interval[0] <= ours.interval[1] && ours.interval[0] <= peer.interval[1];
  return {
    size: (ours.size / peer.size - 1) / EQUAL.size,
    kept: (peer.kept - ours.kept) / EQUAL.kept,
    speed: isOne ? 0 : (peer.speed / ours.speed - 1) / EQUAL.speed,
  };
}

const worst = (lead: Figures): number => Math.max(lead.size, lead.kept, lead.speed);

/** The comparison as a section in Markdown. */
export function aheadSection(zoo: readonly Line[], peers: readonly Line[]): readonly string[] {
  const found = peersAhead(zoo, peers);
  const models = new Set(peers.map(({ model }) => model)).size;
  const compared = peers.filter((peer) => (figuresOf(peer)?.kept ?? 0) >= FLOOR).length;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const of = (line: Line | null, show: (row: Row) => string): string => (line?.row ? show(line.row) : '–');
  const speed = (line: Line | null): string => `${(line ? figuresOf(line) : null)?.speed.toFixed(2) ?? '–'} ×`;
  const rows = found.map(({ peer, ours, columns, beaten }) => {
    const pair = (show: (line: Line | null) => string): string => `${show(peer)} : ${show(ours)}`;
    const cells = [
      peer.model,
      `${peer.by} ${peer.recipe}`,
      ours?.recipe ?? 'none',
      pair((line) => of(line, ({ ratio }) => percent(ratio))),
      pair((line) => of(line, ({ kept }) => percent(kept))),
      pair(speed),
      columns.join(', '),
      beaten.join(', '),
      reasons.get(`${peer.model} ${peer.by} ${peer.recipe}`) ?? '',
    ];
    return `| ${cells.join(' | ')} |`;
  });
  return [
    '## Where a peer is smaller, faster and as accurate',
    '',
    `Computed from the two tables: each of the peers' ${compared} results on ${models} models that keep ${percent(FLOOR)} or more of fp32's score, beside ours of the same model that do. Equal are sizes within ${percent(EQUAL.size)}, speeds at one thread within ${percent(EQUAL.speed)} of each other or whose intervals overlap, and scores within ${(100 * EQUAL.kept).toFixed(1)} points.`,
    '',
    `- Smaller, faster and as accurate as every result of ours: ${found.filter(({ beatsAll }) => beatsAll).length}.`,
    `- Not equalled in all three columns at once by any one result of ours: ${found.length}. Below, each beside ours that is the nearest; in which columns the peer is ahead of it; and than which recipes of ours it is smaller, faster and as accurate.`,
    '',
    ...(rows.length === 0
      ? []
      : [
          '| model | peer | ours, nearest | size, peer : ours | kept | speed | peer is ahead in | beats | why |',
          '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
          ...rows,
        ]),
  ];
}
