import type { TensorValue } from '@flotilla/runtime';
import { ratioDb } from '../analyze/losses.ts';

/** A value that is finite on one side only: no ratio says how wrong that is. */
const NOT_FINITE_DB = -300;

/** How far one tensor is from another, added up over samples. */
export class Deviation {
  private signal = 0;
  private error = 0;
  private product = 0;
  private notFinite = false;
  count = 0;

  /** @returns false where the two cannot be compared: another shape, or no float32 */
  add(reference: TensorValue | undefined, value: TensorValue | undefined): boolean {
    if (reference?.dtype !== 'float32' || value?.dtype !== 'float32') return false;
    if (reference.dims.join() !== value.dims.join()) return false;
    for (let i = 0; i < reference.data.length; i++) {
      const a = reference.data[i] ?? 0;
      const b = value.data[i] ?? 0;
      // Masks are made of infinities.
      if (Object.is(a, b)) {
        if (Number.isFinite(a)) this.signal += a * a;
        if (Number.isFinite(a)) this.product += a * a;
        continue;
      }
      if (!Number.isFinite(a) || !Number.isFinite(b)) {
        this.notFinite = true;
        continue;
      }
      this.signal += a * a;
      this.product += a * b;
      this.error += (a - b) ** 2;
    }
    this.count += reference.data.length;
    return true;
  }

  /** 10·log₁₀(Σa² / Σ(a − b)²); null: equal; −300: finite on one side only, or something where nothing should be. */
  get sqnrDb(): number | null {
    if (this.notFinite) return NOT_FINITE_DB;
    if (this.error === 0) return null;
    return this.signal === 0 ? NOT_FINITE_DB : ratioDb(this.signal, this.error);
  }

  /** The factor by which the value is, on the whole, the reference's: a wrong scale shows here. */
  get gain(): number | null {
    return this.signal === 0 ? null : Number((this.product / this.signal).toPrecision(4));
  }
}

/** null is exact. */
export function asNumber(sqnrDb: number | null): number {
  return sqnrDb ?? Number.POSITIVE_INFINITY;
}
