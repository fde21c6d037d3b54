import { expect, test } from 'vitest';
import { parseCombine, parseLora } from '../src/lora-options.ts';

test.each([
  ['intents', { dir: 'intents', weight: undefined }],
  ['a/b:0.5', { dir: 'a/b', weight: 0.5 }],
  ['a:-1', { dir: 'a', weight: -1 }],
  ['a:b', { dir: 'a:b', weight: undefined }],
  ['a:..', { dir: 'a:..', weight: undefined }],
])('--lora %s', (text, source) => expect(parseLora(text)).toEqual(source));

test.each([
  ['svd', { method: 'svd' }],
  ['svd:rank=16', { method: 'svd', rank: 16 }],
  ['ties:density=0.3,sign=frequency', { method: 'ties', density: 0.3, sign: 'frequency' }],
  ['dare_ties_svd:seed=4,rank=2', { method: 'dare_ties_svd', seed: 4, rank: 2 }],
])('--lora-combine %s', (text, combination) => expect(parseCombine(text)).toEqual(combination));

test.each([
  ['mean', 'takes cat, linear'],
  ['ties:density=0', 'has the density 0'],
  ['ties:density=x', 'has the density x'],
  ['svd:rank=1.5', 'has the rank 1.5'],
  ['ties:sign=both', 'neither total nor frequency'],
  ['ties:weight=2', 'has weight, which is none of'],
  ['ties:density', 'has density, which is not KEY=VALUE'],
])('--lora-combine %s is refused', (text, message) => expect(() => parseCombine(text)).toThrow(message));
