import {
  type Code,
  count,
  f32x4,
  f64x2,
  FunctionCode,
  i16x8,
  i32,
  i32x4,
  type Local,
  v128,
  when,
} from '../wasm/assembler.ts';
import { LARGEST, SMALLEST } from './grid.ts';

/** Weights of a block that the search's loop takes at a time. */
export const AT_ONCE = 8;

/** What differs from program to program. */
export interface BlockProgram {
  readonly symmetric: boolean;
  /** Whether each block's range is searched for the least squared error; else it is all of it. */
  readonly search: boolean;
  /** Whether errors in different columns cost differently. */
  readonly weighted: boolean;
  readonly bf16: boolean;
}

/**
 * The parameters: sizes; then where things lie in memory, in bytes. `tries`: 16 bytes each, see `assembleBlocks`. `costs`: by
 * column, float32. `parts`: by pair of columns of a block, its costs as parts of 32767 of the block's greatest, int16.
 * `values`, `pairs`: room for four blocks. `w`: float32. Results are float32 scales, a byte for each zero point and for each
 * level; `levels` 0: none are made. `packs`: both are packed, two to a byte.
 */
export const PARAMETERS = [
  ...(['rows', 'cols', 'inner', 'block', 'tries', 'tryCount', 'costs', 'parts', 'values', 'pairs'] as const),
  ...(['w', 'scales', 'zeros', 'levels', 'packs'] as const),
];

/** Lanes of 32 bits: blocks that are worked on at a time. */
const LANES = 4;
/** Added to a small float32, it leaves the nearest integer, ties to even, in the lowest bits. */
const MAGIC = 1.5 * 2 ** 23;
/** Bits behind the point of a level before it is rounded: the range may be 15 / 0.6 steps to one side. */
const FRACTION = 10;

/**
 * Finds the grids of all blocks of `[rows, cols, inner]`, four blocks at a time. A try has a share of the full range's step
 * and a zero point; weights are rounded to its levels `l`. The least-squares scale for these, `Σhwl / Σhl²`, brings the
 * error down from `Σhw²` by `(Σhwl)² / Σhl²`: the greatest gain wins, of equal ones the first. These sums are of integers:
 * weights are parts of 32767 of their block's greatest, which errs by 1.5e-5 of it. With the winner's levels the scale is
 * then fitted in float32, rounded to as it is stored.
 *
 * A try in memory: what it adds to the share and to the zero point of the block's centre, float32; and whether the best so
 * far becomes the centre first, int32. The centre begins with a share of 0 and the zero point of the full range.
 * @returns a module; its function gives 0 where all weights are finite
 */
export function assembleBlocks(program: BlockProgram): Uint8Array {
  const code = new FunctionCode(PARAMETERS.length);
  const v = variables(code);
  const { cols, block, inner, rows } = v;
  const left = i32.sub(cols, i32.mul(v.b.get, block));
  const perBlocks: Code = [
    ...place(v),
    ...gather(v),
    ...fullGrid(program, v),
    ...(program.search ? searchGrid(program, v) : []),
    ...storeGrid(v),
    ...when(v.levels, roundLevels(program, v)),
  ];
  return code.module([
    ...v.blocks.set(i32.divU(i32.add(cols, i32.sub(block, i32.const(1))), block)),
    ...v.lanes.set(i32.mul(rows, inner)),
    ...v.check.set(f32x4.const(0)),
    ...count(v.b, v.blocks.get, 1, [
      ...v.length.set(i32.select(i32.ltU(left, block), left, block)),
      ...v.end.set(i32.add(v.pairs, i32.mul(v.length.get, i32.const(16)))),
      ...v.ownParts.set(i32.add(v.parts, i32.mul(v.b.get, i32.mul(roundedUp(block), i32.const(2))))),
      ...count(v.lane, v.lanes.get, LANES, perBlocks),
    ]),
    ...when(v.packs, [
      ...when(v.levels, pack(v, v.levels, i32.mul(v.lanes.get, cols))),
      ...pack(v, v.zeros, i32.mul(v.lanes.get, v.blocks.get)),
    ]),
    ...v128.anyBit(v.check.get), // finite weights leave +0
  ]);
}

/** The next multiple of what the search takes at a time. */
function roundedUp(length: Code): Code {
  const over = i32.add(length, i32.const(AT_ONCE - 1));
  return i32.mul(i32.divU(over, i32.const(AT_ONCE)), i32.const(AT_ONCE));
}

type Variables = ReturnType<typeof variables>;

function variables(code: FunctionCode) {
  const given = Object.fromEntries(PARAMETERS.map((name, index) => [name, code.parameter(index).get])) as {
    readonly [name in (typeof PARAMETERS)[number]]: Code;
  };
  const int = (): Local => code.local('i32');
  const four = (): Local => code.local('v128');
  const perLane = (): readonly Local[] => Array.from({ length: LANES }, int);
  return {
    ...given,
    ...{
      b: int(),
      lane: int(),
      k: int(),
      next: int(),
      length: int(),
      blocks: int(),
      ownParts: int(),
      pair: int(),
      end: int(),
      lanes: int(),
      row: int(),
    },
    /** By lane: where its block begins, in weights; which scale it has; where the walk along it is, in bytes. */
    ...{ starts: perLane(), spots: perLane(), pointers: perLane() },
    ...{ low: four(), high: four(), check: four(), step: four(), scale: four(), zero: four(), value: four() },
    ...{ inverse: four(), base: four(), factor: four(), rounded: four(), level: four(), costly: four(), bits: four() },
    ...{ best: four(), better: four(), mask: four(), usable: four(), bottom: four(), top: four() },
    ...{ share: four(), chosenShare: four(), centreShare: four() },
    ...{ tried: four(), chosenZero: four(), centreZero: four() },
    ...{
      half: [
        { step: four(), zero: four() },
        { step: four(), zero: four() },
      ] as const,
    },
    ...{ wl: four(), ll: four(), weight: four() },
  };
}

const eachLane = (part: (lane: number) => Code): Code => Array.from({ length: LANES }, (_, lane) => lane).flatMap(part);

function at<T>(list: readonly T[], index: number): T {
  const item = list[index];
  if (item === undefined) throw new RangeError(`no item ${index}`);
  return item;
}

/** Where the four blocks are; the last one stands in for those that are beyond it. */
function place(v: Variables): Code {
  const { b, lane, lanes, row, inner, cols, block, blocks } = v;
  const last = i32.sub(lanes.get, i32.const(1));
  return eachLane((index) => {
    const start = at(v.starts, index);
    const spot = at(v.spots, index);
    const own = i32.add(lane.get, i32.const(index));
    return [
      ...start.set(i32.select(i32.ltU(own, last), own, last)),
      ...row.set(i32.divU(start.get, inner)),
      ...start.set(i32.sub(start.get, i32.mul(row.get, inner))), // the place in `inner`
      ...spot.set(i32.add(i32.mul(i32.add(i32.mul(row.get, blocks.get), b.get), inner), start.get)),
      ...start.set(i32.add(i32.mul(i32.add(i32.mul(row.get, cols), i32.mul(b.get, block)), inner), start.get)),
    ];
  });
}

/** Points to the beginnings of the lanes' blocks, `bytes` to an element. */
function pointTo(v: Variables, base: Code, bytes: number): Code {
  return eachLane((lane) => at(v.pointers, lane).set(i32.add(base, i32.mul(at(v.starts, lane).get, i32.const(bytes)))));
}

function forward({ pointers, inner }: Variables, bytes: number): Code {
  return eachLane((lane) => {
    const pointer = at(pointers, lane);
    return pointer.set(i32.add(pointer.get, i32.mul(inner, i32.const(bytes))));
  });
}

function valueAt({ values, k }: Variables, next = 0): Code {
  return i32.add(values, i32.mul(i32.add(k.get, i32.const(next)), i32.const(16)));
}

/** The values of four blocks side by side, zeros behind them, and the range of each, 0 in it. */
function gather(v: Variables): Code {
  const { k, length, value, low, high, check, pointers, values } = v;
  return [
    ...pointTo(v, v.w, 4),
    ...low.set(f32x4.const(0)),
    ...high.set(f32x4.const(0)),
    ...count(k, length.get, 1, [
      ...value.set(v128.gather(pointers.map((pointer) => pointer.get))),
      ...v128.store(valueAt(v), value.get),
      ...low.set(f32x4.min(low.get, value.get)),
      ...high.set(f32x4.max(high.get, value.get)),
      // 0 unless it is NaN or infinite: then NaN, for good.
      ...check.set(f32x4.add(check.get, f32x4.sub(value.get, value.get))),
      ...forward(v, 4),
    ]),
    ...Array.from({ length: AT_ONCE - 1 }, (_, i) =>
      v128.store(i32.add(values, i32.mul(i32.add(length.get, i32.const(i)), i32.const(16))), f32x4.const(0)),
    ).flat(),
  ];
}

/** As `fullGrid` has it, in float64. Leaves in `mask` where the step can be used. */
function fullGrid(program: BlockProgram, v: Variables): Code {
  const { low, high, step, zero, scale, mask, half } = v;
  const range = (index: 0 | 1): Code => {
    const own = half[index];
    const [least, most] = [f64x2.widened(low.get, index), f64x2.widened(high.get, index)];
    const outermost = program.symmetric
      ? f64x2.const(8)
      : f64x2.max(own.zero.get, f64x2.sub(f64x2.const(15), own.zero.get));
    return [
      ...(program.symmetric
        ? [
            ...own.step.set(f64x2.div(f64x2.max(f64x2.neg(least), most), f64x2.const(7))),
            ...own.zero.set(f64x2.const(0)),
          ]
        : [
            ...own.step.set(f64x2.div(f64x2.sub(most, least), f64x2.const(15))),
            ...own.zero.set(f64x2.floor(f64x2.add(f64x2.div(f64x2.neg(least), own.step.get), f64x2.const(0.5)))),
          ]),
      ...own.step.set(f64x2.min(own.step.get, f64x2.div(f64x2.const(LARGEST), outermost))),
    ];
  };
  return [
    ...range(0),
    ...range(1),
    ...zero.set(f64x2.narrowed(half[0].zero.get, half[1].zero.get)),
    ...step.set(stored(program, f64x2.narrowed(half[0].step.get, half[1].step.get), v)),
    ...mask.set(isUsable(step.get, outermostOf(program, zero.get))),
    ...scale.set(v128.choose(mask.get, step.get, f32x4.const(1))),
    ...zero.set(v128.and(mask.get, zero.get)),
  ];
}

function outermostOf({ symmetric }: BlockProgram, zero: Code): Code {
  return symmetric ? f32x4.const(8) : f32x4.max(zero, f32x4.sub(f32x4.const(15), zero));
}

/** As `setGrid` has it: neither subnormal nor so large that a level is infinite. */
function isUsable(scale: Code, outermost: Code): Code {
  return v128.and(
    f32x4.ge(scale, f32x4.const(SMALLEST)),
    f32x4.lt(f32x4.mul(scale, outermost), f32x4.const(Number.POSITIVE_INFINITY)),
  );
}

function stored({ bf16 }: BlockProgram, value: Code, { bits }: Variables): Code {
  return bf16 ? f32x4.bfloat16(value, bits) : value;
}

function searchGrid(program: BlockProgram, v: Variables): Code {
  const { best, share, chosenShare, centreShare, tried, chosenZero, centreZero, zero } = v;
  const at = (byte: number): Code => i32.add(v.tries, i32.add(i32.mul(v.next.get, i32.const(16)), i32.const(byte)));
  return [
    ...v.usable.set(v.mask.get),
    ...toIntegers(program, v),
    ...best.set(f32x4.const(0)),
    ...centreShare.set(f32x4.const(0)),
    ...chosenShare.set(f32x4.const(1)),
    ...centreZero.set(zero.get),
    ...chosenZero.set(zero.get),
    ...count(v.next, v.tryCount, 1, [
      ...when(i32.load(at(8)), [...centreShare.set(chosenShare.get), ...centreZero.set(chosenZero.get)]),
      ...share.set(f32x4.add(centreShare.get, i32x4.loadSplat(at(0)))),
      ...tried.set(f32x4.add(centreZero.get, i32x4.loadSplat(at(4)))),
      ...tryGrid(program, v),
    ]),
    ...fit(program, v, f32x4.mul(v.step.get, chosenShare.get)),
  ];
}

/** The nearest integer of each lane, as two of 16 bits. */
function twice(value: Code, { bits }: Variables): Code {
  return [
    ...bits.set(f32x4.add(value, f32x4.const(MAGIC))),
    ...v128.or(v128.and(bits.get, i32x4.const(0xffff)), i32x4.shiftLeft(bits.get, 16)),
  ];
}

function pairAt({ pairs, k }: Variables): Code {
  return i32.add(pairs, i32.mul(k.get, i32.const(16)));
}

/**
 * Weights as parts of 32767 of their block's greatest, two that follow one another to a lane; behind them, where errors
 * cost differently, the same times their parts of the greatest cost. `base`: for such a part, steps of the full range.
 */
function toIntegers({ weighted }: BlockProgram, v: Variables): Code {
  const { k, length, low, high, step, base, value, bits, weight } = v;
  const integer = (next: number): Code =>
    f32x4.add(f32x4.mul(v128.load(valueAt(v, next)), value.get), f32x4.const(MAGIC));
  return [
    // So great that its inverse is finite.
    ...base.set(f32x4.max(f32x4.max(f32x4.neg(low.get), high.get), f32x4.const(2 ** -110))),
    ...value.set(f32x4.div(f32x4.const(32_767), base.get)),
    ...base.set(f32x4.div(f32x4.mul(base.get, f32x4.const(2 ** (15 + FRACTION) / 32_767)), step.get)),
    ...count(k, roundedUp(length.get), 2, [
      ...bits.set(integer(0)),
      ...weight.set(v128.or(v128.and(bits.get, i32x4.const(0xffff)), i32x4.shiftLeft(integer(1), 16))),
      ...v128.store(pairAt(v), weight.get),
      ...(weighted ? v128.store(i32.add(pairAt(v), i32.const(16)), i16x8.mulShare(weight.get, partAt(v, k.get))) : []),
    ]),
  ];
}

/** The costs of two columns, for all lanes. */
function partAt({ ownParts }: Variables, column: Code, next = 0): Code {
  return i32x4.loadSplat(i32.add(ownParts.get, i32.mul(column, i32.const(2))), 2 * next);
}

/** What the share and the zero point gain, and whether that is the most so far. */
function tryGrid(program: BlockProgram, v: Variables): Code {
  const { best, better, share, chosenShare, tried, chosenZero, costly, wl, ll, usable, bottom, top } = v;
  const lowest = program.symmetric ? f32x4.const(-8) : f32x4.neg(tried.get);
  const isZeroThere = v128.and(f32x4.ge(f32x4.const(0), bottom.get), f32x4.ge(top.get, f32x4.const(0)));
  return [
    ...v.factor.set(twice(f32x4.div(v.base.get, share.get), v)),
    ...bottom.set(lowest),
    ...top.set(f32x4.add(bottom.get, f32x4.const(15))),
    // A zero point below 0 or above 15 leaves 0 off the grid.
    ...better.set(v128.and(usable.get, isZeroThere)),
    ...bottom.set(twice(bottom.get, v)),
    ...top.set(twice(top.get, v)),
    ...wl.set(f32x4.const(0)),
    ...ll.set(f32x4.const(0)),
    ...count(
      v.pair,
      v.end.get,
      16 * AT_ONCE,
      [0, 2, 4, 6].flatMap((next) => addUp(program, v, next)),
      v.pairs,
    ),
    ...costly.set(f32x4.fromInt(wl.get)),
    ...costly.set(f32x4.mul(costly.get, f32x4.div(costly.get, f32x4.fromInt(ll.get)))),
    ...better.set(v128.and(better.get, f32x4.gt(costly.get, best.get))),
    ...best.set(v128.choose(better.get, costly.get, best.get)),
    ...chosenShare.set(v128.choose(better.get, share.get, chosenShare.get)),
    ...chosenZero.set(v128.choose(better.get, tried.get, chosenZero.get)),
  ];
}

/** Two weights of each block, rounded, and what they add to the sums. */
function addUp({ weighted }: BlockProgram, v: Variables, next: number): Code {
  const { weight, rounded, factor, bottom, top, level, wl, ll } = v;
  const half = i16x8.const(2 ** (FRACTION - 1));
  const column = i32.divU(i32.sub(v.pair.get, v.pairs), i32.const(16));
  const product = weighted ? v128.load(v.pair.get, 16 * next + 16) : weight.get;
  const square = weighted
    ? i32x4.dot(partAt(v, column, next), i16x8.mul(level.get, level.get))
    : i32x4.dot(level.get, level.get);
  return [
    ...weight.set(v128.load(v.pair.get, 16 * next)),
    ...rounded.set(i16x8.shiftRight(i16x8.add(i16x8.mulShare(weight.get, factor.get), half), FRACTION)),
    ...level.set(i16x8.min(i16x8.max(rounded.get, bottom.get), top.get)),
    ...wl.set(i32x4.add(wl.get, i32x4.dot(product, level.get))),
    ...ll.set(i32x4.add(ll.get, square)),
  ];
}

/**
 * Rounds to a step, and fits the scale to these levels: `step · Σh(w/step)l / Σhl²`. Where it is of no use, or nothing was
 * gained, all stays as it was.
 */
function fit(program: BlockProgram, v: Variables, step: Code): Code {
  const { k, length, value, level, costly, inverse, bottom, top, wl, ll, chosenZero, scale, zero, mask } = v;
  const outermost = outermostOf(program, chosenZero.get);
  return [
    ...inverse.set(step),
    ...bottom.set(program.symmetric ? f32x4.const(-8) : f32x4.neg(chosenZero.get)),
    ...top.set(f32x4.add(bottom.get, f32x4.const(15))),
    ...wl.set(f32x4.const(0)),
    ...ll.set(f32x4.const(0)),
    ...count(k, length.get, 1, [
      ...value.set(f32x4.div(v128.load(valueAt(v)), inverse.get)),
      ...level.set(f32x4.min(f32x4.max(f32x4.nearest(value.get), bottom.get), top.get)),
      ...costly.set(program.weighted ? f32x4.mul(costAt(v), level.get) : level.get),
      ...wl.set(f32x4.add(wl.get, f32x4.mul(value.get, costly.get))),
      ...ll.set(f32x4.add(ll.get, f32x4.mul(level.get, costly.get))),
    ]),
    ...value.set(f32x4.mul(inverse.get, f32x4.div(wl.get, ll.get))),
    ...value.set(stored(program, f32x4.min(value.get, f32x4.div(f32x4.const(LARGEST), outermost)), v)),
    ...mask.set(v128.and(isUsable(value.get, outermost), f32x4.gt(v.best.get, f32x4.const(0)))),
    ...scale.set(v128.choose(mask.get, value.get, scale.get)),
    ...zero.set(v128.choose(mask.get, chosenZero.get, zero.get)),
  ];
}

function costAt({ costs, b, block, k }: Variables): Code {
  return i32x4.loadSplat(i32.add(costs, i32.mul(i32.add(i32.mul(b.get, block), k.get), i32.const(4))));
}

function storeGrid({ scale, zero, bits, scales, zeros, spots }: Variables): Code {
  return [
    ...bits.set(f32x4.add(zero.get, f32x4.const(MAGIC))),
    ...eachLane((lane) => {
      const spot = at(spots, lane).get;
      return [
        ...v128.storeLane(i32.add(scales, i32.mul(spot, i32.const(4))), scale.get, lane),
        ...v128.storeByte(i32.add(zeros, spot), bits.get, 4 * lane),
      ];
    }),
  ];
}

function roundLevels({ symmetric }: BlockProgram, v: Variables): Code {
  const { k, length, level, scale, zero, pointers, bits } = v;
  const lowest = symmetric ? -8 : 0;
  const nearest = f32x4.add(f32x4.nearest(f32x4.div(v128.load(valueAt(v)), scale.get)), zero.get);
  return [
    ...pointTo(v, v.levels, 1),
    ...count(k, length.get, 1, [
      ...level.set(f32x4.max(f32x4.min(nearest, f32x4.const(lowest + 15)), f32x4.const(lowest))),
      ...bits.set(f32x4.add(level.get, f32x4.const(MAGIC))),
      ...eachLane((lane) => v128.storeByte(at(pointers, lane).get, bits.get, 4 * lane)),
      ...forward(v, 1),
    ]),
  ];
}

/** Bytes in place, the lower four bits of two to each; the last of an odd number has zeros beside it. */
function pack({ k, value, level }: Variables, base: Code, length: Code): Code {
  const both = (offset: number): Code => [
    ...value.set(
      v128.and(v128.load(i32.add(base, i32.add(i32.mul(k.get, i32.const(2)), i32.const(offset)))), i16x8.const(0x0f0f)),
    ),
    ...v128.and(v128.or(value.get, i16x8.shiftRightUnsigned(value.get, 4)), i16x8.const(0xff)),
  ];
  return [
    ...v128.store(i32.add(base, length), f32x4.const(0)),
    ...count(k, i32.divU(i32.add(length, i32.const(1)), i32.const(2)), 16, [
      ...level.set(both(0)),
      ...v128.store(i32.add(base, k.get), i16x8.narrowed(level.get, both(16))),
    ]),
  ];
}
