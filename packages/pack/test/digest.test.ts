import { expect, test } from 'vitest';
import { checked } from '../src/digest.ts';
import { noise } from './sample.ts';
import { sha256 } from './tamper.ts';

const expected = { digest: `sha256:${sha256(noise(10))}`, bytes: 10 };

async function read(chunks: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of checked(chunks, expected, 'x')) bytes += chunk.length;
  return bytes;
}

async function* from(...chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

test('chunks pass if they are what was declared', async () => {
  expect(await read(from(noise(10).subarray(0, 4), new Uint8Array(), noise(10).subarray(4)))).toBe(10);
});

test('#39 chunks that sum to more than declared: refused at the first byte too many, the rest never asked for', async () => {
  let asked = 0;
  let closed = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        asked++;
        yield new Uint8Array(4);
      }
    } finally {
      closed = true;
    }
  }
  await expect(read(endless())).rejects.toMatchObject({ code: 'pack/size-mismatch' });
  expect(asked).toBe(3);
  expect(closed).toBe(true);
});

test('too few, and others', async () => {
  await expect(read(from(noise(9)))).rejects.toMatchObject({ code: 'pack/size-mismatch' });
  await expect(read(from(noise(10, 2)))).rejects.toMatchObject({ code: 'pack/digest-mismatch' });
});
