export function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** Row-major strides, in elements. */
export function stridesOf(dims: readonly number[]): number[] {
  const strides = dims.map(() => 1);
  for (let axis = dims.length - 2; axis >= 0; axis--) strides[axis] = (strides[axis + 1] ?? 1) * (dims[axis + 1] ?? 1);
  return strides;
}

/** Multidirectional broadcasting; undefined where the shapes do not meet. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] | undefined {
  const rank = Math.max(a.length, b.length);
  const dims: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[a.length - rank + axis] ?? 1;
    const y = b[b.length - rank + axis] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    dims.push(x === 1 ? y : x);
  }
  return dims;
}

/** From a flat index in `dims` to the flat index of the element that an operand of shape `own` gives there. */
export function broadcastIndex(dims: readonly number[], own: readonly number[]): (flat: number) => number {
  const [strides, ownStrides] = [stridesOf(dims), stridesOf(own)];
  const lead = dims.length - own.length;
  return (flat) => {
    let index = 0;
    for (const [axis, length] of own.entries()) {
      if (length === 1) continue;
      const at = Math.floor(flat / (strides[lead + axis] ?? 1)) % (dims[lead + axis] ?? 1);
      index += at * (ownStrides[axis] ?? 0);
    }
    return index;
  };
}
