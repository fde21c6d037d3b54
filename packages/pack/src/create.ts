import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { checkConfig, maxConfigBytes } from './config.ts';
import { canonicalJson } from './canonical-json.ts';
import { digestOf } from './digest.ts';
import { fromSystem, PackError } from './errors.ts';
import type { PrivateKey } from './keys.ts';
import { deriveMetadata } from './manifest.ts';
import { signConfig } from './signature.ts';
import type { Blob, PackConfig, PackContents, SourceFile } from './types.ts';
import { fileSources, once, writeLayout } from './write-layout.ts';

/**
 * Writes a pack. The same contents and key give the same bytes, on any machine at any time.
 * @param out one tar if it ends in `.pack`, else a directory; a pack that lies there is replaced
 * @returns the pack's name (digest of its manifest) and the sum of its blobs in bytes
 * @throws {PackError} `pack/config` for contents that break the format's rules; `pack/not-found`, `pack/changed` for a
 *   source file; `pack/exists`, `pack/no-space`, `pack/io`
 */
export async function createPack(
  out: string,
  contents: PackContents,
  options?: { readonly key?: PrivateKey | undefined; readonly signal?: AbortSignal | undefined },
): Promise<{ readonly digest: string; readonly bytes: number }> {
  const signal = options?.signal;
  const files = contents.files.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  const sources = new Map(files.map((file) => [file.path, file.source]));
  const listed = [];
  for (const file of files) listed.push({ path: file.path, role: file.role, ...(await describe(file, signal)) });
  const { name, task, weights, parameters, sourceBytes, golden, latencyBudgetUs, annotations } = contents;
  const config: PackConfig = checkConfig({
    format: 'flotilla-pack/1',
    name,
    task,
    files: listed,
    weights,
    parameters,
    sourceBytes,
    golden,
    latencyBudgetUs,
    annotations,
  });
  const packConfig = canonicalJson(config);
  if (packConfig.length > maxConfigBytes)
    throw new PackError('pack/too-large', `the pack config has ${packConfig.length} bytes, over ${maxConfigBytes}`);
  const signature = options?.key === undefined ? undefined : signConfig(packConfig, options.key);
  const read = (path: string): AsyncIterable<Uint8Array> => readSource(sources.get(path) ?? new Uint8Array(), signal);
  try {
    return await writeLayout(out, deriveMetadata(config, signature), fileSources(config, read));
  } catch (error) {
    // Each source is read twice, to be hashed and to be written; here the two readings differed.
    const differed = error instanceof PackError && error.code.endsWith('-mismatch');
    throw differed
      ? new PackError('pack/changed', `${error.where} changed while it was read`, { cause: error })
      : error;
  }
}

async function describe({ source }: SourceFile, signal: AbortSignal | undefined): Promise<Blob> {
  if (typeof source !== 'string') return { digest: digestOf(source), bytes: source.length };
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of readSource(source, signal)) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { digest: `sha256:${hash.digest('hex')}`, bytes };
}

async function* readSource(
  source: string | Uint8Array,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  signal?.throwIfAborted();
  if (typeof source !== 'string') return yield* once(source);
  try {
    yield* createReadStream(source, { highWaterMark: 1 << 20, signal });
  } catch (error) {
    throw fromSystem(error, source);
  }
}
