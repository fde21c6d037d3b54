import { createPack, generateKey, openPack, type PrivateKey, writeAdapter } from '@flotilla/pack';
import type { DesiredRelease } from '@flotilla/protocol';
import { join } from 'node:path';

export const packKey: PrivateKey = generateKey();

export interface TestPack {
  readonly digest: string;
  /** Of its model. */
  readonly model: string;
  /** Blobs by digest. */
  readonly blobs: ReadonlyMap<string, Uint8Array>;
  readonly manifestBytes: number;
  readonly totalBytes: number;
}

/** Bytes that look like nothing, the same for one seed. */
export function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** A well-formed, signed pack. What the fake engine makes of it is in its annotations; its model is noise. */
export async function makePack(
  dir: string,
  options: {
    readonly seed: number;
    readonly annotations?: { readonly [key: string]: string };
    readonly modelBytes?: number;
    readonly key?: PrivateKey | undefined;
    readonly boardClass?: string;
    readonly budgetUs?: number;
    /** Can be rebuilt of this one's model: it is that, turned round. */
    readonly base?: TestPack;
    /** The model's bytes, instead. */
    readonly model?: Uint8Array;
  },
): Promise<TestPack> {
  const { base } = options;
  const turned = base?.blobs.get(base.model)?.toReversed();
  const factors = base && writeAdapter({ name: `factors-${options.seed}`, model: base.model, parts: [] });
  const out = join(dir, `pack-${options.seed}-${Math.random().toString(36).slice(2)}`);
  await createPack(
    out,
    {
      name: 'labels',
      task: 'tensor',
      files: [
        {
          path: 'model.onnx',
          role: 'model',
          source: options.model ?? turned ?? noise(options.modelBytes ?? 700_000, options.seed),
        },
        ...(factors ? [{ path: 'rebuild.safetensors', role: 'rebuild', source: factors }] : []),
        { path: 'golden.safetensors', role: 'golden', source: noise(1000, 99) },
        { path: 'README.md', role: 'doc', source: new TextEncoder().encode(`seed ${options.seed}\n`) },
      ],
      weights: 'int8',
      parameters: 1000,
      sourceBytes: 4000,
      golden: { path: 'golden.safetensors', tolerance: { [options.boardClass ?? 'x64']: { atol: 0.1, rtol: 0.1 } } },
      latencyBudgetUs: { '*': options.budgetUs ?? 1_000_000 },
      annotations: options.annotations ?? {},
    },
    { key: 'key' in options ? options.key : packKey },
  );
  const pack = await openPack(out);
  const blobs = new Map<string, Uint8Array>();
  for (const { digest, bytes } of pack.blobs) blobs.set(digest, await pack.readBlob(digest, 0, bytes));
  await pack.close();
  const totalBytes = [...blobs.values()].reduce((sum, { length }) => sum + length, 0);
  const model = pack.config.files.find(({ role }) => role === 'model')?.digest ?? '';
  return { digest: pack.digest, model, blobs, manifestBytes: blobs.get(pack.digest)?.length ?? 0, totalBytes };
}

export function releaseOf(pack: TestPack, sequence: number, more: Partial<DesiredRelease> = {}): DesiredRelease {
  return {
    device: 'pi-1',
    name: 'labels',
    sequence,
    digest: pack.digest,
    manifestBytes: pack.manifestBytes,
    totalBytes: pack.totalBytes,
    version: `${sequence}.0.0`,
    healthWindowMs: 200,
    stateDeadlineMs: 20_000,
    ...more,
  };
}
