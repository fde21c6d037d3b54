import { type Code, count, f32, f64x2, FunctionCode, i32, type Local, when } from '../wasm/assembler.ts';
import { LARGEST, SMALLEST } from './grid.ts';

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
 * The parameters: sizes; then where things lie in memory, in bytes. `shares`: of the full range, those that are tried,
 * float64. `costs`: by column, float64. `values`: room for two blocks, float64. `w`: float32. Results are float32 scales, a
 * byte for each zero point and for each level; `levels` 0: none are made.
 */
export const PARAMETERS = [
  ...(['rows', 'cols', 'inner', 'block', 'shares', 'shareCount', 'costs', 'values'] as const),
  ...(['w', 'scales', 'zeros', 'levels'] as const),
];

/**
 * Finds the grids of all blocks of `[rows, cols, inner]`, two blocks at a time, in float64. For every share of the full
 * range, and for the nearest zero point and both its neighbours, weights are rounded to levels `l`; the least-squares scale
 * for these is `s = Σhwl / Σhl²`, and as it is stored it brings the error down from `Σhw²` by `2s·Σhwl − s²·Σhl²`. The
 * greatest gain wins, of equal ones the first: the nearest zero point's, then that of the one below, then above.
 *
 * Other zero points shift the grid: by half a step they sometimes fit better, and where one end is cut by more. What is
 * rounded before it is cut is the same for all three.
 * @returns a module; its function gives 0 where all weights are finite
 */
export function assembleBlocks(program: BlockProgram): Uint8Array {
  const code = new FunctionCode(PARAMETERS.length);
  const v = variables(code);
  const candidates = (program.symmetric ? [0] : [0, -1, 1]).map((shift) => ({ shift, ...sums(code) }));
  const { cols, block, inner, rows } = v;
  const left = i32.sub(cols, i32.mul(v.b.get, block));
  const perBlock: Code = [
    ...gather(v),
    ...fullGrid(program, v),
    ...(program.search ? searchGrid(program, v, candidates) : []),
    ...storeGrid(v),
    ...when(v.levels, roundLevels(program, v)),
  ];
  return code.module([
    ...v.blocks.set(i32.divU(i32.add(cols, i32.sub(block, i32.const(1))), block)),
    ...v.lanes.set(i32.mul(rows, inner)),
    ...v.check.set(f64x2.const(0)),
    ...count(v.b, v.blocks.get, 1, [
      ...v.length.set(i32.select(i32.ltU(left, block), left, block)),
      ...count(v.lane, v.lanes.get, 2, perBlock),
    ]),
    ...f64x2.anyBit(v.check.get), // finite weights leave +0
  ]);
}

type Variables = ReturnType<typeof variables>;

function variables(code: FunctionCode) {
  const given = Object.fromEntries(PARAMETERS.map((name, index) => [name, code.parameter(index).get])) as {
    readonly [name in (typeof PARAMETERS)[number]]: Code;
  };
  const int = (): Local => code.local('i32');
  const pair = (): Local => code.local('f64x2');
  return {
    ...given,
    ...{ b: int(), lane: int(), k: int(), share: int(), length: int(), blocks: int(), lanes: int() },
    ...{ first: int(), second: int() },
    ...{ low: pair(), high: pair(), check: pair(), step: pair(), scale: pair(), zero: pair(), value: pair() },
    ...{ tried: pair(), rounded: pair(), cost: pair(), level: pair(), costly: pair(), bits: pair() },
    ...{ fit: pair(), better: pair(), best: pair(), mask: pair(), usable: pair() },
  };
}

/** A zero point's sums, the best that was found with it, and where its levels end. */
function sums(code: FunctionCode) {
  const pair = (): Local => code.local('f64x2');
  return { bottom: pair(), top: pair(), wl: pair(), ll: pair(), gain: pair(), fitted: pair() };
}

type Candidate = ReturnType<typeof sums> & { readonly shift: number };

/** The second lane; the last one of an odd number is done twice. */
function otherLane({ lane, lanes }: Variables): Code {
  const next = i32.add(lane.get, i32.const(1));
  return i32.select(i32.ltU(next, lanes.get), next, lane.get);
}

/** Where a lane's block begins in `[rows, of, inner]`, at `column` of row `lane / inner`. */
function indexOf({ inner }: Variables, lane: Code, of: Code, column: Code): Code {
  const row = i32.add(i32.mul(i32.divU(lane, inner), of), column);
  return i32.add(i32.mul(row, inner), i32.remU(lane, inner));
}

/** Points `first` and `second` to the beginnings of the lanes' blocks, `bytes` to an element. */
function pointTo(v: Variables, base: Code, bytes: number): Code {
  const start = (lane: Code): Code =>
    i32.add(base, i32.mul(indexOf(v, lane, v.cols, i32.mul(v.b.get, v.block)), i32.const(bytes)));
  return [...v.first.set(start(v.lane.get)), ...v.second.set(start(otherLane(v)))];
}

function forward({ first, second, inner }: Variables, bytes: number): Code {
  const stride = i32.mul(inner, i32.const(bytes));
  return [...first.set(i32.add(first.get, stride)), ...second.set(i32.add(second.get, stride))];
}

function valueAt({ values, k }: Variables): Code {
  return i32.add(values, i32.mul(k.get, i32.const(16)));
}

/** The values of both blocks side by side, and the range of each, 0 in it. */
function gather(v: Variables): Code {
  const { k, length, first, second, value, low, high, check } = v;
  return [
    ...pointTo(v, v.w, 4),
    ...low.set(f64x2.const(0)),
    ...high.set(f64x2.const(0)),
    ...count(k, length.get, 1, [
      ...value.set(f64x2.pair(f32.loadWide(first.get), f32.loadWide(second.get))),
      ...f64x2.store(valueAt(v), value.get),
      ...low.set(f64x2.min(low.get, value.get)),
      ...high.set(f64x2.max(high.get, value.get)),
      // 0 unless it is NaN or infinite: then NaN, for good.
      ...check.set(f64x2.add(check.get, f64x2.sub(value.get, value.get))),
      ...forward(v, 4),
    ]),
  ];
}

/** As `fullGrid` has it. Leaves in `mask` where the step can be used. */
function fullGrid(program: BlockProgram, v: Variables): Code {
  const { low, high, step, zero, scale, mask } = v;
  const range: Code = program.symmetric
    ? [...step.set(f64x2.div(f64x2.max(f64x2.neg(low.get), high.get), f64x2.const(7))), ...zero.set(f64x2.const(0))]
    : [
        ...step.set(f64x2.div(f64x2.sub(high.get, low.get), f64x2.const(15))),
        ...zero.set(f64x2.floor(f64x2.add(f64x2.div(f64x2.neg(low.get), step.get), f64x2.const(0.5)))),
      ];
  return [
    ...range,
    ...usableScale(program, v, zero.get, step.get),
    ...step.set(scale.get),
    ...scale.set(f64x2.choose(mask.get, scale.get, f64x2.const(1))),
    ...zero.set(f64x2.and(mask.get, zero.get)),
  ];
}

/** As `setGrid` has it: the scale as it is stored in `scale`, and in `mask` whether it can be used. */
function usableScale({ symmetric, bf16 }: BlockProgram, v: Variables, zero: Code, step: Code): Code {
  const { scale, mask } = v;
  const outermost = symmetric ? f64x2.const(8) : f64x2.max(zero, f64x2.sub(f64x2.const(15), zero));
  const held = f64x2.min(step, f64x2.div(f64x2.const(LARGEST), outermost));
  return [
    ...scale.set(stored(bf16, held, v)),
    ...mask.set(
      f64x2.and(
        f64x2.ge(scale.get, f64x2.const(SMALLEST)),
        f64x2.lt(f64x2.mul(scale.get, outermost), f64x2.const(2 ** 128)),
      ),
    ),
  ];
}

function stored(bf16: boolean, value: Code, { bits }: Variables): Code {
  return bf16 ? f64x2.narrowedTwice(value, bits) : f64x2.narrowed(value);
}

function searchGrid(program: BlockProgram, v: Variables, candidates: readonly Candidate[]): Code {
  const { k, share, shares, shareCount, step, zero, tried, usable } = v;
  const shareAt = i32.add(shares, i32.mul(share.get, i32.const(8)));
  const each = (part: (candidate: Candidate) => Code): Code => candidates.flatMap(part);
  return [
    ...usable.set(v.mask.get),
    ...each(({ shift, bottom, top, gain }) => [
      ...bottom.set(program.symmetric ? f64x2.const(-8) : f64x2.sub(f64x2.const(-shift), zero.get)),
      ...top.set(f64x2.add(bottom.get, f64x2.const(15))),
      ...gain.set(f64x2.const(0)),
    ]),
    ...count(share, shareCount, 1, [
      ...tried.set(f64x2.mul(step.get, f64x2.loadSplat(shareAt))),
      ...each(({ wl, ll }) => [...wl.set(f64x2.const(0)), ...ll.set(f64x2.const(0))]),
      ...count(k, v.length.get, 1, [...roundOnce(program, v), ...each((candidate) => addUp(program, v, candidate))]),
      ...each((candidate) => judge(program, v, candidate)),
    ]),
    ...chooseGrid(v, candidates),
  ];
}

/** The next weights of both blocks, and `round(w / step)` of each. */
function roundOnce({ weighted }: BlockProgram, v: Variables): Code {
  const costAt = i32.add(v.costs, i32.mul(i32.add(i32.mul(v.b.get, v.block), v.k.get), i32.const(8)));
  return [
    ...v.value.set(f64x2.load(valueAt(v))),
    ...v.rounded.set(f64x2.nearest(f64x2.div(v.value.get, v.tried.get))),
    ...(weighted ? v.cost.set(f64x2.loadSplat(costAt)) : []),
  ];
}

function addUp({ weighted }: BlockProgram, { value, rounded, level, cost, costly }: Variables, sum: Candidate): Code {
  const { bottom, top, wl, ll } = sum;
  return [
    ...level.set(f64x2.min(f64x2.max(rounded.get, bottom.get), top.get)),
    ...costly.set(weighted ? f64x2.mul(cost.get, level.get) : level.get),
    ...wl.set(f64x2.add(wl.get, f64x2.mul(value.get, costly.get))),
    ...ll.set(f64x2.add(ll.get, f64x2.mul(level.get, costly.get))),
  ];
}

/** Takes the scale that fits the levels where it gains more than what this zero point had. */
function judge(program: BlockProgram, v: Variables, { shift, wl, ll, gain, fitted }: Candidate): Code {
  const { fit, better, scale, mask } = v;
  const square = f64x2.mul(f64x2.mul(fit.get, fit.get), ll.get);
  return [
    ...fit.set(stored(program.bf16, f64x2.div(wl.get, ll.get), v)),
    ...better.set(f64x2.sub(f64x2.mul(f64x2.mul(f64x2.const(2), fit.get), wl.get), square)),
    ...usableScale(program, v, f64x2.add(v.zero.get, f64x2.const(shift)), fit.get),
    ...mask.set(f64x2.and(mask.get, f64x2.gt(better.get, gain.get))),
    ...gain.set(f64x2.choose(mask.get, better.get, gain.get)),
    ...fitted.set(f64x2.choose(mask.get, scale.get, fitted.get)),
  ];
}

/** The first of the greatest gains; where none is above 0, or the step was of no use, all stays as it was. */
function chooseGrid(v: Variables, candidates: readonly Candidate[]): Code {
  const { best, mask, scale, zero, usable, level } = v;
  const whole = f64x2.choose(usable.get, v.step.get, f64x2.const(1));
  return [
    ...best.set(f64x2.const(0)),
    ...scale.set(whole),
    ...level.set(zero.get),
    ...candidates.flatMap(({ shift, bottom, top, gain, fitted }) => [
      // A zero point below 0 or above 15 leaves 0 off the grid.
      ...mask.set(f64x2.and(f64x2.ge(f64x2.const(0), bottom.get), f64x2.ge(top.get, f64x2.const(0)))),
      ...mask.set(f64x2.and(f64x2.and(mask.get, usable.get), f64x2.gt(gain.get, best.get))),
      ...best.set(f64x2.choose(mask.get, gain.get, best.get)),
      ...scale.set(f64x2.choose(mask.get, fitted.get, scale.get)),
      ...level.set(f64x2.choose(mask.get, f64x2.add(zero.get, f64x2.const(shift)), level.get)),
    ]),
    ...zero.set(level.get),
  ];
}

function storeGrid(v: Variables): Code {
  const { scale, zero, lane } = v;
  const halves = [lane.get, otherLane(v)] as const;
  return ([0, 1] as const).flatMap((half) => {
    const index = indexOf(v, halves[half], v.blocks.get, v.b.get);
    return [
      ...f32.storeNarrow(i32.add(v.scales, i32.mul(index, i32.const(4))), f64x2.half(scale.get, half)),
      ...i32.storeByte(i32.add(v.zeros, index), f64x2.toInt(zero.get, half)),
    ];
  });
}

function roundLevels({ symmetric }: BlockProgram, v: Variables): Code {
  const { k, length, value, level, scale, zero, first, second } = v;
  const lowest = symmetric ? -8 : 0;
  const nearest = f64x2.add(f64x2.nearest(f64x2.div(value.get, scale.get)), zero.get);
  return [
    ...pointTo(v, v.levels, 1),
    ...count(k, length.get, 1, [
      ...value.set(f64x2.load(valueAt(v))),
      ...level.set(f64x2.max(f64x2.min(nearest, f64x2.const(lowest + 15)), f64x2.const(lowest))),
      ...i32.storeByte(first.get, f64x2.toInt(level.get, 0)),
      ...i32.storeByte(second.get, f64x2.toInt(level.get, 1)),
      ...forward(v, 1),
    ]),
  ];
}
