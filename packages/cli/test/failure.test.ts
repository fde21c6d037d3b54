import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { CliError } from '../src/errors.ts';
import { describeError, exitCodeOf, failureLine } from '../src/failure.ts';

test('a typed error keeps its code, place and mend in one line', () => {
  const failure = describeError(
    Object.assign(new Error('digest\n differs'), {
      code: 'pack/digest-mismatch',
      where: 'a.pack',
      hint: 'fetch it again',
    }),
  );
  expect(failureLine(failure)).toBe('error pack/digest-mismatch: digest differs, a.pack; fetch it again');
  expect(exitCodeOf(failure)).toBe(3);
  const named = { ...failure, message: 'a.onnx: cut short at byte 1', where: 'a.onnx, byte 1', hint: null };
  expect(failureLine(named)).toBe('error pack/digest-mismatch: a.onnx: cut short at byte 1');
});

test('a missing file is bad input and names its path', async () => {
  const error = await readFile('/nowhere/model.onnx').catch((reason: unknown) => reason);
  expect(describeError(error)).toMatchObject({ code: 'cli/file', where: '/nowhere/model.onnx' });
  expect(exitCodeOf(describeError(error))).toBe(3);
});

test('a full disk lies in the surroundings, whichever package says so', () => {
  const cause = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
  const error = Object.assign(new Error('cannot write', { cause }), { code: 'onnx/write' });
  expect(exitCodeOf(describeError(error), error)).toBe(5);
  expect(exitCodeOf(describeError(error))).toBe(3);
});

test('a port in use lies in the surroundings, a wrong option in the usage, the rest in us', () => {
  const inUse = Object.assign(new Error('listen EADDRINUSE'), { code: 'EADDRINUSE' });
  expect(exitCodeOf(describeError(inUse))).toBe(5);
  expect(exitCodeOf(describeError(new CliError('cli/usage', 'no')))).toBe(2);
  const ofOption = Object.assign(new Error('--block belongs to int4'), { code: 'compiler/recipe' });
  expect(exitCodeOf(describeError(ofOption))).toBe(2);
  expect(exitCodeOf(describeError(new TypeError('x is undefined')))).toBe(1);
});
