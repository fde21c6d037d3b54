import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { IN_PLACE } from '@flotilla/lowering';
import { type Model, writeModel } from '@flotilla/onnx';
import { openSession, type Session, type Tensors, type TensorValue } from '@flotilla/runtime';

/** Room for as many rows in the buffers that decoders write in place. */
const BUFFER = 24;

/**
 * Feeds tokens to a decoder in pieces, its cache carried from one to the next, and returns each piece's logits. The cache
 * comes out whole as `present.*`, or is written where it is fed, into buffers that are longer than what is in them.
 */
export async function decode(
  model: Model,
  pieces: readonly (readonly number[])[],
  { keep = 0, config }: { readonly keep?: number; readonly config?: { readonly [key: string]: string } } = {},
): Promise<readonly Float32Array[]> {
  const path = join(await mkdtemp(join(tmpdir(), 'decode-')), 'model.onnx');
  await writeModel(model, path);
  const session = await openSession(path, { config });
  try {
    const inPlace = session.outputs.some(({ name }) => name === IN_PLACE);
    const vocabulary = Number(session.outputs.find(({ name }) => name === 'logits')?.dims.at(-1));
    let cache = emptyCache(session, inPlace ? BUFFER : 0);
    let past = 0;
    const all: Float32Array[] = [];
    for (const ids of pieces) {
      const feeds = { ...cache, ...tokenFeeds(session, ids, past, keep) };
      past += ids.length;
      if (inPlace) {
        const logits = floats([1, keep === 0 ? ids.length : keep, vocabulary]);
        await session.prepareInPlace(feeds, { ...renamed(cache, 'past_key_values', 'present'), logits })({});
        all.push(logits.data);
        continue;
      }
      const outputs = await session.run(feeds);
      cache = renamed(outputs, 'present', 'past_key_values');
      all.push(outputs['logits']?.data as Float32Array);
    }
    return all;
  } finally {
    await session.close();
  }
}

function emptyCache({ inputs }: Session, rows: number): Tensors {
  const caches = inputs.filter(({ dims }) => dims.length === 4);
  return Object.fromEntries(
    caches.map(({ name, dtype, dims: [, heads, , size] }) => {
      const dims = [1, Number(heads), rows, Number(size)];
      const length = Number(heads) * rows * Number(size);
      // What is not yet written must not be read: anything but zeros.
      const tensor: TensorValue =
        dtype === 'int8'
          ? { dtype, dims, data: new Int8Array(length).fill(77) }
          : { dtype: 'float32', dims, data: new Float32Array(length).fill(77) };
      return [name, tensor];
    }),
  );
}

function tokenFeeds({ inputs }: Session, ids: readonly number[], past: number, keep: number): Tensors {
  const int64 = (dims: readonly number[], values: readonly number[]): TensorValue => ({
    dtype: 'int64',
    dims,
    data: BigInt64Array.from(values, BigInt),
  });
  const total = past + ids.length;
  const feeds: Tensors = {
    input_ids: int64([1, ids.length], ids),
    attention_mask: int64(
      [1, total],
      Array.from({ length: total }, () => 1),
    ),
    position_ids: int64(
      [1, ids.length],
      ids.map((_, i) => past + i),
    ),
    num_logits_to_keep: int64([], [keep]),
  };
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => inputs.some((input) => input.name === name)));
}

function renamed(caches: Tensors, from: string, to: string): Tensors {
  const own = Object.entries(caches).filter(([name]) => name.startsWith(from));
  return Object.fromEntries(own.map(([name, value]) => [name.replace(from, to), value]));
}

function floats(dims: readonly number[]): TensorValue & { readonly dtype: 'float32' } {
  return { dtype: 'float32', dims, data: new Float32Array(dims.reduce((all, dim) => all * dim, 1)) };
}
