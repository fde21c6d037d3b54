import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NOT_TAKEN, once } from '../bench/zoo/kept.ts';

test('what is kept under the same key is shown, and asked for again only where asking is allowed', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kept-'));
  try {
    const file = join(folder, 'model', 'row.json');
    let asked = 0;
    const ask = () => Promise.resolve(++asked);
    expect(await once({ file, key: 'a', knownOnly: true }, ask)).toEqual({ answer: null, failed: NOT_TAKEN });
    expect(await once({ file, key: 'a' }, ask)).toMatchObject({ answer: 1 });
    expect(await once({ file, key: 'a' }, ask)).toMatchObject({ answer: 1 });
    expect(await once({ file, key: 'a', again: true, knownOnly: true }, ask)).toMatchObject({ answer: 1 });
    expect(await once({ file, key: 'a', again: true }, ask)).toMatchObject({ answer: 2 });
    expect(await once({ file, key: 'b', knownOnly: true }, ask)).toEqual({ answer: null, failed: NOT_TAKEN });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
