/**
 * xoshiro128++ (Blackman and Vigna, 2019), its four words filled by SplitMix32 from the seed: the same numbers on every
 * machine.
 * @param seed a whole number; its low 32 bits count
 * @returns a function that gives the next of 2^32 equally likely numbers in [0, 1)
 */
export function randomFrom(seed: number): () => number {
  let mixed = seed >>> 0;
  const word = () => {
    mixed = (mixed + 0x9e3779b9) >>> 0;
    let z = Math.imul(mixed ^ (mixed >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let [a, b, c, d] = [word(), word(), word(), word()];
  return () => {
    const result = (rotate(a + d, 7) + a) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = rotate(d, 11);
    return result / 2 ** 32;
  };
}

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
