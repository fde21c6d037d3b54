/** What the 16 codes of a 4-bit format stand for, as shares of a block's largest magnitude. */
export interface FourBitFormat {
  readonly name: 'nf4' | 'fp4';
  /** By code, in float32. */
  readonly levels: Float32Array;
}

/**
 * NormalFloat: quantiles of the normal distribution, 0 and ±1 among them. The constants are the format.
 * @see Dettmers et al. 2023, QLoRA, appendix E
 */
export const NF4: FourBitFormat = {
  name: 'nf4',
  levels: Float32Array.of(
    -1,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1,
  ),
};

/** Sign, two bits of exponent, one of mantissa, in bitsandbytes' order of codes, as shares of its largest value, 12. */
export const FP4: FourBitFormat = {
  name: 'fp4',
  levels: Float32Array.of(0, 0.0625, 8, 12, 4, 6, 2, 3, -0, -0.0625, -8, -12, -4, -6, -2, -3).map((v) => v / 12),
};

export function fourBitFormat(name: 'nf4' | 'fp4'): FourBitFormat {
  return name === 'nf4' ? NF4 : FP4;
}

/** What the 16 codes of a format stand for, float32, as shares of a block's maximum. */
export function fourBitLevels(name: 'nf4' | 'fp4'): Float32Array {
  return fourBitFormat(name).levels.slice();
}

/** A format's levels from low to high, and between each two the bound above which the upper one is nearer. */
export interface Ladder {
  readonly codes: Uint8Array;
  /** float32, one fewer than codes. A value on a bound goes to the lower level. */
  readonly bounds: Float32Array;
}

export function ladderOf({ levels }: FourBitFormat): Ladder {
  // −0 is not a level of its own: values just below 0 take the code of +0.
  const codes = Array.from(levels.keys())
    .filter((code) => !Object.is(levels[code], -0))
    .sort((a, b) => levels[a] - levels[b]);
  const bounds = codes.slice(1).map((code, i) => Math.fround(levels[code] + levels[codes[i]]) / 2);
  return { codes: Uint8Array.from(codes), bounds: Float32Array.from(bounds) };
}
