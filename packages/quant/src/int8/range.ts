import { QuantError } from '../errors.ts';
import { roundHalfEven } from './round.ts';

/** A real interval. */
export interface Range {
  readonly min: number;
  readonly max: number;
}

/** `real = scale · (q − zeroPoint)`, q in 0…255. */
export interface Uint8Range {
  readonly scale: number;
  readonly zeroPoint: number;
}

/**
 * Asymmetric uint8 over an interval, widened to hold 0 (padding and Relu need it exact); the zero point is rounded to
 * a whole step and the scale is a float32.
 * @throws {QuantError} `quant/not-finite`; `quant/range` where min > max
 */
export function uint8Range({ min, max }: Range): Uint8Range {
  if (!Number.isFinite(min) || !Number.isFinite(max)) throw new QuantError('quant/not-finite', `range ${min}…${max}`);
  if (min > max) throw new QuantError('quant/range', `range ${min}…${max} runs backwards`);
  const [low, high] = [Math.min(min, 0), Math.max(max, 0)];
  const scale = Math.fround((high - low) / 255);
  // All zero, or so narrow that a float32 step vanishes: any scale serves.
  if (!(scale > 1.2e-38)) return { scale: 1, zeroPoint: 0 };
  return { scale, zeroPoint: Math.max(0, Math.min(255, roundHalfEven(-low / scale))) };
}

/**
 * Symmetric uint8: the zero point in the middle (128), `scale = max|x| / 127`; an interval without a negative side starts
 * at 0 as it does asymmetrically. Wastes the shorter side; zero points are then the same everywhere.
 * @throws {QuantError} as `uint8Range`
 */
export function symmetricUint8Range({ min, max }: Range): Uint8Range {
  if (min >= 0) return uint8Range({ min, max });
  const most = Math.max(-min, max);
  const { scale } = uint8Range({ min: (-most * 255) / 127, max: 0 });
  return { scale, zeroPoint: 128 };
}

/**
 * Uint8 for `x · hardSigmoid(x)` with `hardSigmoid(x) = clip(slope·x + 0.5, 0, 1)`: the interval starts where the gate
 * closes, at q = 0, so that the convolution itself saturates there; the gate opens fully at q = 2 · zeroPoint.
 * Read with scale `slope · scale` and zero point 0, `min(q, 2·zeroPoint)` *is* the gate.
 * @param max largest x to keep; values above are clipped
 * @throws {QuantError} `quant/range` for a slope that is not positive
 */
export function hardSwishRange(max: number, slope: number): Uint8Range {
  if (!(slope > 0) || !Number.isFinite(max)) throw new QuantError('quant/range', `slope ${slope}, maximum ${max}`);
  const closed = 0.5 / slope; // the gate is 0 at −closed, 1 at +closed
  // At 127 the gate's top, 254, is the last even step below 256; more than that and it would not fit.
  const zeroPoint = Math.max(1, Math.min(127, Math.floor((closed / (Math.max(max, 0) + closed)) * 255)));
  return { scale: Math.fround(closed / zeroPoint), zeroPoint };
}
