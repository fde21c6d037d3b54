/**
 * bitsandbytes' signed dynamic 8-bit map: seven decades, each with twice the fractions of the one below, and 0 and 1.
 * The float32 steps are PyTorch's, so that the entries are too.
 * @returns 256 values from −0.993 to 1, rising
 * @see Dettmers 2016, 8-Bit Approximations for Parallelism in Deep Learning, §3
 */
export function dynamicMap(): Float32Array {
  const values: number[] = [0, 1];
  for (let decade = 0; decade < 7; decade++) {
    const count = 2 ** decade;
    const power = Math.fround(10 ** (decade - 6));
    const edges = linspace(0.1, 1, count + 1);
    for (let i = 0; i < count; i++) {
      const mean = Math.fround(Math.fround(edges[i] + edges[i + 1]) / 2);
      const value = Math.fround(power * mean);
      values.push(value, -value);
    }
  }
  return Float32Array.from(values).sort();
}

/** As `torch.linspace` in float32: the upper half is counted from the end. */
function linspace(start: number, end: number, count: number): Float32Array {
  const from = Math.fround(start);
  const step = Math.fround(Math.fround(end - from) / (count - 1));
  return Float32Array.from({ length: count }, (_, i) =>
    i < count / 2 ? from + Math.fround(step * i) : end - Math.fround(step * (count - 1 - i)),
  );
}
