import { describe, expect, test } from 'vitest';
import { randomFrom } from '../src/random.ts';
import { chooseToken, checkSampling, type Sampling } from '../src/sampling.ts';
import { StopStrings } from '../src/stop-strings.ts';

/** Probabilities 0.5, 0.3, 0.15, 0.05 at temperature 1. */
const probabilities = [0.15, 0.5, 0.05, 0.3];
const logits = () => Float32Array.from(probabilities, Math.log);
const choose = (sampling: Sampling, draw: number, allowed?: Uint32Array, seen: number[] = []) =>
  chooseToken(logits(), sampling, { draw, allowed, seen });

function shares(sampling: Sampling, allowed?: Uint32Array): number[] {
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 4000; i++) {
    const id = choose(sampling, (i + 0.5) / 4000, allowed);
    counts[id] = (counts[id] ?? 0) + 1 / 4000;
  }
  return counts;
}

describe('sampling', () => {
  test('takes the best at temperature 0, the first of equals, none of nothing', () => {
    expect(choose({}, 0.999)).toBe(1);
    expect(chooseToken(Float32Array.of(2, 7, 7), {}, { draw: 0, allowed: undefined, seen: [] })).toBe(1);
    expect(chooseToken(Float32Array.of(Number.NaN, Number.NaN), {}, { draw: 0, allowed: undefined, seen: [] })).toBe(
      -1,
    );
    expect(choose({ temperature: 1 }, 0.5, Uint32Array.of(0))).toBe(-1);
  });

  test.each<[string, Sampling, Uint32Array | undefined, readonly number[]]>([
    ['temperature 1', { temperature: 1 }, undefined, probabilities],
    ['temperature 0.5: squares', { temperature: 0.5 }, undefined, [0.0616, 0.6849, 0.0068, 0.2466]],
    ['top-k 2', { temperature: 1, topK: 2 }, undefined, [0, 0.625, 0, 0.375]],
    ['top-p 0.7', { temperature: 1, topP: 0.7 }, undefined, [0, 0.625, 0, 0.375]],
    ['top-p 0.81', { temperature: 1, topP: 0.81 }, undefined, [0.1579, 0.5263, 0, 0.3158]],
    ['min-p 0.29', { temperature: 1, minP: 0.29 }, undefined, [0.1579, 0.5263, 0, 0.3158]],
    ['top-p of what top-k leaves', { temperature: 1, topK: 3, topP: 0.6 }, undefined, [0, 0.625, 0, 0.375]],
    ['only what is allowed', { temperature: 1 }, Uint32Array.of(0b0101), [0.75, 0, 0.25, 0]],
  ])('draws each token as often as it is probable: %s', (_, sampling, allowed, expected) => {
    const found = shares(sampling, allowed);
    for (const [id, share] of expected.entries()) expect(found[id]).toBeCloseTo(share, 3);
  });

  test('what was seen is penalised once, whatever the sign of its logit', () => {
    const after = (seen: number[]) => {
      const values = Float32Array.of(2, 1.5, -1);
      chooseToken(values, { repetitionPenalty: 2 }, { draw: 0, allowed: undefined, seen });
      return [...values];
    };
    expect(after([])).toEqual([2, 1.5, -1]);
    expect(after([0, 0, 2])).toEqual([1, 1.5, -2]);
  });

  test.each<[Sampling, string]>([
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: Number.NaN }, 'temperature'],
    [{ temperature: 1, topK: 1.5 }, 'topK'],
    [{ temperature: 1, topP: 0 }, 'topP'],
    [{ temperature: 1, minP: 2 }, 'minP'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty'],
    [{ topK: 5 }, 'topK'], // without a temperature it would do nothing, and say so to nobody
  ])('refuses %j', (sampling, where) => {
    expect(() => checkSampling(sampling)).toThrow(expect.objectContaining({ code: 'runtime/options', where }));
  });

  test('xoshiro128++ gives the numbers that an independent program gave', () => {
    const next = randomFrom(42);
    expect([next(), next(), next()].map((value) => value * 2 ** 32)).toEqual(REFERENCE);
    expect(randomFrom(43)()).not.toBe(randomFrom(42)());
  });
});

/** From 15 lines of Python written from the two papers; seed 42. */
const REFERENCE: readonly number[] = [80372098, 2594957127, 2747729271];

describe('stop strings', () => {
  test.each<[string[], string[], string[], string]>([
    [['END'], ['a E', 'N', 'D b'], ['a ', '', ''], 'a '],
    [['END'], ['a E', 'N', 'O'], ['a ', '', 'ENO'], 'a ENO'],
    [['aab'], ['aa', 'ab'], ['', 'a'], 'a'],
    [['x', 'long'], ['lo', 'x'], ['', 'lo'], 'lo'],
    [[''], ['a', 'b'], ['a', 'b'], 'ab'],
  ])('%j in %j', (stops, pieces, told, text) => {
    const stop = new StopStrings(stops);
    expect(pieces.map((piece) => stop.push(piece))).toEqual(told);
    stop.end();
    expect(stop.text).toBe(text);
  });

  test('what was held back comes at the end', () => {
    const stop = new StopStrings(['END']);
    stop.push('a EN');
    expect([stop.text, stop.end(), stop.text]).toEqual(['a ', 'EN', 'a EN']);
  });
});
