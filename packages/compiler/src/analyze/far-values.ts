/** A value far from the others, with its address. */
export interface Outlier {
  readonly value: number;
  /** Place in the tensor, one number a dimension. */
  readonly at: readonly number[];
  /** Along the channel axis; null for a tensor without one. */
  readonly channel: number | null;
  /** Sample of the data; null for a constant. */
  readonly sample: number | null;
  /** Distance from the mean in standard deviations. */
  readonly sigmas: number;
}

interface Seen {
  readonly value: number;
  readonly at: readonly number[];
  readonly channel: number | null;
  readonly sample: number | null;
}

const KEPT = 5;

/** Keeps the few values that lie farthest out, one a channel, so that one bad channel does not hide the next. */
export class FarValues {
  private seen: Seen[] = [];

  /** @param so far: mean and standard deviation of what was seen, these values included */
  observe(
    values: Float32Array,
    dims: readonly number[],
    axis: number,
    soFar: { readonly mean: number; readonly std: number },
    sample?: number,
  ): void {
    const { mean, std } = soFar;
    const nearest = this.seen.length < KEPT ? 3 * std : Math.abs((this.seen.at(-1)?.value ?? 0) - mean);
    let least = Math.max(3 * std, nearest);
    if (std === 0) return;
    for (let i = 0; i < values.length; i++) {
      const value = values[i] ?? 0;
      const distance = Math.abs(value - mean);
      if (!(distance > least) || distance === Number.POSITIVE_INFINITY) continue;
      this.keep(value, i, { dims, axis, mean, sample });
      if (this.seen.length === KEPT) least = Math.abs((this.seen.at(-1)?.value ?? 0) - mean);
    }
  }

  private keep(
    value: number,
    index: number,
    place: {
      readonly dims: readonly number[];
      readonly axis: number;
      readonly mean: number;
      readonly sample: number | undefined;
    },
  ): void {
    const { dims, axis, mean, sample = null } = place;
    const at = placeOf(index, dims);
    const channel = dims.length > 1 ? (at[axis] ?? null) : null;
    const distance = (one: Seen) => Math.abs(one.value - mean);
    const same = channel === null ? -1 : this.seen.findIndex((one) => one.channel === channel);
    const other = this.seen[same];
    if (other && distance(other) >= Math.abs(value - mean)) return;
    if (other) this.seen.splice(same, 1);
    this.seen.push({ value, at, channel, sample });
    this.seen.sort((a, b) => distance(b) - distance(a));
    this.seen.length = Math.min(this.seen.length, KEPT);
  }

  /** Those farther from the mean than `distance`, farthest first. */
  beyond(mean: number, distance: number): Outlier[] {
    if (distance === 0) return [];
    return this.seen
      .filter(({ value }) => Math.abs(value - mean) > distance)
      .toSorted((a, b) => Math.abs(b.value - mean) - Math.abs(a.value - mean))
      .map((one) => ({ ...one, sigmas: (6 * Math.abs(one.value - mean)) / distance }));
  }
}

function placeOf(index: number, dims: readonly number[]): number[] {
  const at: number[] = [];
  let rest = index;
  for (const dim of dims.toReversed()) {
    at.unshift(rest % dim);
    rest = Math.floor(rest / dim);
  }
  return at;
}
