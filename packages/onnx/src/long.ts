/** protobufjs's 64-bit integer, as far as it is used here. */
interface Halves {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

/** A decoded int64. Its class comes with protobufjs, or it is a plain number where that found none. */
export function toBigInt(value: Halves | number): bigint {
  if (typeof value === 'number') return BigInt(value);
  return (BigInt(value.high | 0) << 32n) | BigInt(value.low >>> 0);
}

/** As protobufjs's writer takes it. */
export function toLong(value: bigint | number): Halves {
  const bits = BigInt(value);
  return {
    low: Number(BigInt.asIntN(32, bits)),
    high: Number(BigInt.asIntN(32, bits >> 32n)),
    unsigned: false,
  };
}
