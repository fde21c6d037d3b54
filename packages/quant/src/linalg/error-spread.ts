/** Columns whose errors are kept back and then spread together: each element behind them is loaded once for all. */
const TOGETHER = 16;

/**
 * Walks the columns of a matrix in order and lets what each leaves over take effect on those behind it, by the rows of an
 * upper triangle: the inner loop of GPTQ. Errors reach the far columns some columns at a time, in the order in which a
 * plain walk adds them, so that the result is the same to the bit.
 * @param rest `[cols, rows]` in processing order; changed on the way
 * @param upper row-major `[cols, cols]`
 * @param round takes column `i`, current from `start` in `rest`, and puts what it leaves over into `error` at `at` and on
 * @see Frantar et al. 2022, GPTQ, §3.3, lazy batch updates
 */
export function walkColumns(
  rest: Float64Array,
  { upper, rows, cols }: { readonly upper: Float64Array; readonly rows: number; readonly cols: number },
  round: (i: number, start: number, error: Float64Array, at: number) => void,
): void {
  const error = new Float64Array(TOGETHER * rows);
  for (let from = 0; from < cols; from += TOGETHER) {
    const to = Math.min(cols, from + TOGETHER);
    for (let i = from; i < to; i++) {
      round(i, i * rows, error, (i - from) * rows);
      for (let j = i + 1; j < to; j++)
        subtract(rest, j * rows, { error, at: (i - from) * rows, rows, factor: upper[i * cols + j] });
    }
    for (let j = to; j < cols; j++) subtractAll(rest, j, error, { upper, rows, cols, from, to });
  }
}

interface Part {
  readonly error: Float64Array;
  readonly at: number;
  readonly rows: number;
  readonly factor: number;
}

function subtract(rest: Float64Array, start: number, { error, at, rows, factor }: Part): void {
  for (let row = 0; row < rows; row++) rest[start + row] -= error[at + row] * factor;
}

interface Kept {
  readonly upper: Float64Array;
  readonly rows: number;
  readonly cols: number;
  readonly from: number;
  readonly to: number;
}

/** Column `j` less the errors of columns `from` to `to`, four at a time, one after another in each element. */
function subtractAll(rest: Float64Array, j: number, error: Float64Array, { upper, rows, cols, from, to }: Kept): void {
  const start = j * rows;
  let i = from;
  for (; i + 4 <= to; i += 4) {
    const at = (i - from) * rows;
    const [f0, f1, f2, f3] = [
      upper[i * cols + j],
      upper[(i + 1) * cols + j],
      upper[(i + 2) * cols + j],
      upper[(i + 3) * cols + j],
    ];
    for (let row = 0; row < rows; row++) {
      let value = rest[start + row] - error[at + row] * f0;
      value -= error[at + rows + row] * f1;
      value -= error[at + 2 * rows + row] * f2;
      rest[start + row] = value - error[at + 3 * rows + row] * f3;
    }
  }
  for (; i < to; i++) subtract(rest, start, { error, at: (i - from) * rows, rows, factor: upper[i * cols + j] });
}
