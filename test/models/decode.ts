import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Model, writeModel } from '@flotilla/onnx';
import { openSession, type Session, type Tensors, type TensorValue } from '@flotilla/runtime';

/** Room for as many rows in the buffers that `rows` decoders read. */
const BUFFER = 24;

/**
 * Feeds tokens to a decoder in pieces, its cache carried from one to the next, and returns each piece's logits. The cache
 * is what the outputs say: `present.*` whole, or `new.*` written into longer buffers.
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
    const rows = session.outputs.some(({ name }) => name.startsWith('new.'));
    let cache = emptyCache(session, rows ? BUFFER : 0);
    let past = 0;
    const all: Float32Array[] = [];
    for (const ids of pieces) {
      const outputs = await session.run({ ...cache, ...tokenFeeds(session, ids, past, keep) });
      cache = rows ? written(cache, outputs, past) : renamed(outputs);
      past += ids.length;
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

function renamed(outputs: Tensors): Tensors {
  const caches = Object.entries(outputs).filter(([name]) => name.startsWith('present'));
  return Object.fromEntries(caches.map(([name, value]) => [name.replace('present', 'past_key_values'), value]));
}

function written(cache: Tensors, outputs: Tensors, past: number): Tensors {
  for (const [name, buffer] of Object.entries(cache)) {
    const rows = outputs[name.replace('past_key_values', 'new')];
    if (!rows) throw new Error(`no new rows for ${name}`);
    // Or int8: both take numbers.
    const [data, added] = [buffer.data as Float32Array, rows.data as Float32Array];
    const [, heads = 0, count = 0, size = 0] = rows.dims;
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < count * size; i++) data[(h * BUFFER + past) * size + i] = added[h * count * size + i] ?? 0;
  }
  return cache;
}
