import { openPack } from '@flotilla/pack';
import type { DesiredRelease } from '@flotilla/protocol';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Disk, ModelRecord } from '../src/index.ts';
import { emptyRecord, recordOf, newModel } from '../src/mind/state.ts';
import { nodeDisk } from '../src/node-disk.ts';
import { refusalOf } from '../src/refusal.ts';
import { Store } from '../src/store/store.ts';
import { diesAfter, failsOnce } from './faulty-disk.ts';
import { makePack, noise, packKey, releaseOf, type TestPack } from './packs.ts';

let root: string;
let packA: TestPack;
let packB: TestPack;
beforeAll(async () => {
  // In memory where there is such a folder: these tests sync some thousand files.
  root = await mkdtemp(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'store-'));
  packA = await makePack(root, { seed: 1 });
  packB = await makePack(root, { seed: 2 });
  await update(new Store(nodeDisk, join(root, 'with-a')), packA, releaseOf(packA, 1));
});
afterAll(() => rm(root, { recursive: true, force: true }));

const trusted = [packKey.publicKey];
const folder = (): Promise<string> => mkdtemp(join(root, 'data-'));
/** A data folder with packA committed in slot a. */
async function folderWithA(): Promise<string> {
  const dir = await folder();
  await cp(join(root, 'with-a'), dir, { recursive: true });
  return dir;
}

type Build = Parameters<Store['rebuild']>[1];
const turnRound: Build = async ({ basePath, outPath }) => writeFile(outPath, (await readFile(basePath)).toReversed());

/** What the mind orders for one update, in its order. */
async function update(store: Store, pack: TestPack, one: DesiredRelease, build = turnRound): Promise<number> {
  const before = (await store.records()).find(({ name }) => name === one.name) ?? emptyRecord(one.name);
  const slot = before.active?.slot === 'a' ? 'b' : 'a';
  const record: ModelRecord = { ...before, sequence: one.sequence, release: one, phase: { at: 'fetching' } };
  await store.save(record);
  let fetched = 0;
  for (let plan = await store.plan(one); ; plan = await store.plan(one)) {
    for (const piece of plan.missing) {
      fetched += piece.length;
      const bytes = pack.blobs.get(piece.digest)?.subarray(piece.offset, piece.offset + piece.length);
      await store.store(one.name, piece, bytes ?? new Uint8Array());
    }
    if (plan.missing.length > 0) continue;
    if (plan.stage === 'blobs') break;
    await store.rebuild(one, build).catch((error: Error) => {
      if (error.message === 'power cut') throw error;
    });
  }
  await store.verify(one, trusted, 'x64');
  await store.save({ ...record, fallback: undefined, phase: { at: 'installing' } });
  await store.install(one, slot);
  const active = { slot, digest: one.digest } as const;
  await store.save({ ...record, active, fallback: before.active, phase: { at: 'trial' } });
  await store.save({ ...record, active, fallback: before.active, phase: { at: 'committed' } });
  await store.markCommitted(one.name, active, one.sequence);
  return fetched;
}

async function activeDigest(dir: string, disk: Disk = nodeDisk): Promise<string | undefined> {
  const store = new Store(disk, dir);
  const [record] = await store.records();
  if (record?.active === undefined) return undefined;
  const pack = await openPack(join(store.slot('labels', record.active.slot), 'pack'), { trusted });
  await pack.close();
  expect(pack.digest).toBe(record.active.digest);
  return pack.digest;
}

test('a pack is gathered, verified and installed; what is on the device is not fetched again', async () => {
  const dir = await folder();
  const store = new Store(nodeDisk, dir);
  expect(await update(store, packA, releaseOf(packA, 1))).toBe(packA.totalBytes);
  expect(await activeDigest(dir)).toBe(packA.digest);
  // packB shares its golden vectors with packA.
  expect(await update(store, packB, releaseOf(packB, 2))).toBe(packB.totalBytes - 1000);
  expect(await activeDigest(dir)).toBe(packB.digest);
  expect(await update(store, packA, releaseOf(packA, 3))).toBe(0);
  expect(await readdir(join(dir, 'models', 'labels'))).toEqual(['a', 'b', 'state.1', 'state.2']);
});

test('#51 a power cut within any write leaves a bootable slot, and the update goes through after it', async () => {
  for (let writes = 0; ; writes++) {
    const dir = await folderWithA();
    const disk = diesAfter(writes);
    const cut = await update(new Store(disk, dir), packB, releaseOf(packB, 2)).then(
      () => false,
      (error: Error) => error.message === 'power cut' || Promise.reject(error),
    );
    const booted = await activeDigest(dir);
    if (!cut) {
      expect(booted).toBe(packB.digest);
      expect(disk.used()).toBeGreaterThan(25);
      break;
    }
    expect([packA.digest, packB.digest]).toContain(booted);
    await update(new Store(nodeDisk, dir), packB, releaseOf(packB, 3));
    expect(await activeDigest(dir)).toBe(packB.digest);
    await rm(dir, { recursive: true });
  }
});

test('#50 ENOSPC, EIO or EROFS at any write is told, and the slot that serves is untouched', async () => {
  for (const code of ['ENOSPC', 'EIO', 'EROFS'])
    for (let call = 0; ; call += code === 'ENOSPC' ? 2 : 9) {
      const dir = await folderWithA();
      const disk = failsOnce(call, code);
      const reason = await update(new Store(disk, dir), packB, releaseOf(packB, 2)).then(
        () => 'none',
        (error: unknown) => refusalOf(error, 'load').reason,
      );
      expect([packA.digest, packB.digest]).toContain(await activeDigest(dir));
      await rm(dir, { recursive: true });
      if (disk.used() <= call) break;
      expect(reason).toBe(code === 'ENOSPC' ? 'storage-full' : 'storage-fault');
    }
});

test('a download goes on where a kill cut it off', async () => {
  const dir = await folder();
  const one = releaseOf(packA, 1);
  let store = new Store(nodeDisk, dir);
  const fetched: string[] = [];
  for (let round = 0; round < 50; round++) {
    const { missing } = await store.plan(one);
    const [piece] = missing;
    if (piece === undefined) break;
    fetched.push(`${piece.digest} ${piece.offset}`);
    const bytes = packA.blobs.get(piece.digest)?.subarray(piece.offset, piece.offset + piece.length);
    await store.store('labels', piece, bytes ?? new Uint8Array());
    store = new Store(nodeDisk, dir); // as after a kill
  }
  expect(new Set(fetched).size).toBe(fetched.length);
  await store.verify(one, trusted, 'x64');
});

describe('a model that can be rebuilt', () => {
  let rebuilt: TestPack;
  beforeAll(async () => {
    rebuilt = await makePack(root, { seed: 11, base: packA });
  });

  test('is made of its base, which stays for the next update', async () => {
    const dir = await folderWithA();
    const store = new Store(nodeDisk, dir);
    expect(await update(store, rebuilt, releaseOf(rebuilt, 2))).toBeLessThan(10_000);
    expect(await activeDigest(dir)).toBe(rebuilt.digest);
    expect(await readdir(store.slot('labels', 'b'))).toEqual(['base', 'mark.1', 'mark.2', 'pack']);
    // packA's own slot is overwritten, and then the one that its model was first kept in.
    for (const seed of [12, 13, 14]) {
      const next = await makePack(root, { seed, base: packA, model: noise(50_000, seed) });
      const build: Build = ({ outPath }) => writeFile(outPath, noise(50_000, seed));
      expect(await update(store, next, releaseOf(next, seed), build)).toBeLessThan(10_000);
      expect(await activeDigest(dir)).toBe(next.digest);
    }
    expect(await update(store, packB, releaseOf(packB, 20))).toBeGreaterThan(packB.totalBytes - 1001);
    expect(await readdir(store.slot('labels', 'b'))).toEqual(['mark.1', 'mark.2', 'pack']);
  });

  test.each<[string, boolean, Build]>([
    ['no base on the device', false, turnRound],
    ['other bytes', true, ({ outPath }) => writeFile(outPath, noise(700_000, 3))],
    ['an engine that fails', true, () => Promise.reject(new Error('made up'))],
  ])('is fetched whole after %s', async (_title, hasBase, build) => {
    const dir = await (hasBase ? folderWithA() : folder());
    const store = new Store(nodeDisk, dir);
    expect(await update(store, rebuilt, releaseOf(rebuilt, 2), build)).toBeGreaterThan(700_000);
    expect(await activeDigest(dir)).toBe(rebuilt.digest);
    expect(await readdir(store.slot('labels', hasBase ? 'b' : 'a'))).toEqual(['mark.1', 'mark.2', 'pack']);
  });

  test('is fetched whole where the device ends while it rebuilds', async () => {
    // Once to see how many writes come before; then the power goes right behind it.
    let writes = 0;
    const disk = diesAfter(Infinity);
    await update(new Store(disk, await folderWithA()), rebuilt, releaseOf(rebuilt, 2), async (plan) => {
      writes = disk.used();
      await turnRound(plan);
    });
    const dir = await folderWithA();
    const cut = update(new Store(diesAfter(writes), dir), rebuilt, releaseOf(rebuilt, 2));
    await expect(cut).rejects.toThrow('power cut');
    expect(await update(new Store(nodeDisk, dir), rebuilt, releaseOf(rebuilt, 3))).toBe(700_000);
    expect(await activeDigest(dir)).toBe(rebuilt.digest);
  });
});

test('a blob of other bytes is removed and fetched anew', async () => {
  const dir = await folder();
  const store = new Store(nodeDisk, dir);
  const one = releaseOf(packA, 1);
  const { missing } = await store.plan(one);
  for (const piece of missing) expect(await store.store('labels', piece, noise(piece.length, 7))).toBe('damaged');
  expect((await store.plan(one)).missing).toEqual(missing);
});

describe('what is not to be trusted', () => {
  const reasonOf = async (pack: TestPack, keys = trusted, boardClass = 'x64'): Promise<string> => {
    const store = new Store(nodeDisk, await folder());
    const one = releaseOf(pack, 1);
    for (let plan = await store.plan(one); plan.missing.length > 0; plan = await store.plan(one))
      for (const piece of plan.missing)
        await store.store(
          'labels',
          piece,
          pack.blobs.get(piece.digest)?.subarray(piece.offset, piece.offset + piece.length) ?? new Uint8Array(),
        );
    return store.verify(one, keys, boardClass).then(
      () => 'none',
      (error: unknown) => refusalOf(error, 'load').reason,
    );
  };
  test('an unsigned pack, and one of a key that this device does not trust', async () => {
    expect(await reasonOf(await makePack(root, { seed: 3, key: undefined }))).toBe('pack-signature');
    expect(await reasonOf(packA, [])).toBe('pack-signature');
  });
  test('a pack without tolerances for the class of this board', async () => {
    expect(await reasonOf(packA, trusted, 'arm64')).toBe('board-unsupported');
  });
  test('#39 a manifest that names more bytes than the release announced', async () => {
    const store = new Store(nodeDisk, await folder());
    const one = releaseOf(packA, 1, { totalBytes: packA.totalBytes - 1 });
    const [piece] = (await store.plan(one)).missing;
    if (piece !== undefined) await store.store('labels', piece, packA.blobs.get(piece.digest) ?? new Uint8Array());
    await expect(store.plan(one)).rejects.toMatchObject({ reason: 'pack-invalid' });
  });
  test.each(['not json', '{}', '{"layers":[{}]}', '{"layers":[{"digest":"sha256:../../x","size":1}]}', '[]', 'null'])(
    '#37 a manifest that is none: %s',
    async (text) => {
      const store = new Store(nodeDisk, await folder());
      const bytes = new TextEncoder().encode(text);
      const digest = `sha256:${(await import('node:crypto')).createHash('sha256').update(bytes).digest('hex')}`;
      const one = releaseOf(packA, 1, { digest, manifestBytes: bytes.length });
      await store.plan(one);
      await store.store('labels', { digest, offset: 0, length: bytes.length }, bytes);
      await expect(store.plan(one)).rejects.toMatchObject({ reason: 'pack-invalid' });
    },
  );
});

describe('#51 #52 the state file', () => {
  const state = (dir: string, copy: 1 | 2): string => join(dir, 'models', 'labels', `state.${copy}`);
  const installed = async (): Promise<string> => {
    const dir = await folder();
    await update(new Store(nodeDisk, dir), packA, releaseOf(packA, 1));
    await update(new Store(nodeDisk, dir), packB, releaseOf(packB, 2));
    return dir;
  };
  test.each([1, 2] as const)('copy %i torn, empty, garbage or gone: the other one holds', async (copy) => {
    for (const damage of ['torn', 'empty', 'garbage', 'gone']) {
      const dir = await installed();
      const bytes = await readFile(state(dir, copy));
      if (damage === 'gone') await rm(state(dir, copy));
      else {
        const left = { torn: bytes.subarray(0, bytes.length - 9), empty: '', garbage: noise(300, 5) }[damage] ?? '';
        await writeFile(state(dir, copy), left);
      }
      expect(await activeDigest(dir)).toBe(packB.digest);
    }
  });
  test('both copies garbage: the slot that was committed last is found, and the damage told', async () => {
    const dir = await installed();
    for (const copy of [1, 2] as const) await writeFile(state(dir, copy), noise(100, 5));
    const [record] = await new Store(nodeDisk, dir).records();
    expect(record).toMatchObject({
      active: { digest: packB.digest },
      fallback: { digest: packA.digest },
      sequence: 2,
      phase: { at: 'failed', reason: 'storage-fault' },
    });
  });
  test('both copies garbage and no slot good: empty, and told', async () => {
    const dir = await folder();
    await mkdir(join(dir, 'models', 'labels', 'a'), { recursive: true });
    for (const copy of [1, 2] as const) await writeFile(state(dir, copy), 'x');
    const [record] = await new Store(nodeDisk, dir).records();
    expect(record).toMatchObject({ active: undefined, phase: { at: 'failed', reason: 'storage-fault' } });
  });
  test('a single flipped bit anywhere in both copies never leads to a wrong slot', async () => {
    const dir = await installed();
    const good = await readFile(state(dir, 1));
    for (let at = 0; at < good.length; at += 23) {
      const bytes = Uint8Array.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ 4;
      for (const copy of [1, 2] as const) await writeFile(state(dir, copy), bytes);
      const found = await activeDigest(dir).catch((error: { code?: string }) => error.code);
      expect([packB.digest, 'agent/state-newer']).toContain(found);
    }
  });
  test('the state of a newer agent is refused, not overwritten', async () => {
    const dir = await installed();
    const text = await readFile(state(dir, 2), 'utf8');
    await writeFile(state(dir, 2), text.replace('flotilla-agent 1', 'flotilla-agent 2'));
    await expect(new Store(nodeDisk, dir).records()).rejects.toMatchObject({ code: 'agent/state-newer' });
  });
  test('a record comes back as it went', async () => {
    const store = new Store(nodeDisk, await folder());
    const record: ModelRecord = {
      ...recordOf(newModel(emptyRecord('labels'))),
      release: releaseOf(packA, 4),
      sequence: 4,
      phase: { at: 'rolled-back', reason: 'crashed', detail: 'x' },
    };
    await store.save(record);
    expect(await store.records()).toEqual([record]);
  });
});

const isRoot = process.platform === 'linux' && process.getuid?.() === 0;
test.skipIf(!isRoot)(
  '#50 a disk that fills up while the agent writes (a real tmpfs; skipped unless root)',
  async () => {
    const dir = join(root, 'tmpfs');
    await mkdir(dir);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1900k', 'tmpfs', dir]);
    try {
      await update(new Store(nodeDisk, dir), packA, releaseOf(packA, 1));
      // The free space is there when the download begins, and then somebody else takes it.
      const store = new Store(nodeDisk, dir);
      const one = releaseOf(packB, 2);
      const { missing } = await store.plan(one);
      for (const piece of missing)
        await store.store('labels', piece, packB.blobs.get(piece.digest) ?? new Uint8Array());
      const plan = await store.plan(one);
      await writeFile(join(dir, 'other'), new Uint8Array(900_000)).catch(() => undefined);
      const storing = async (): Promise<void> => {
        for (const piece of plan.missing) {
          const blob = packB.blobs.get(piece.digest) ?? new Uint8Array();
          await store.store('labels', piece, blob.subarray(piece.offset, piece.offset + piece.length));
        }
      };
      await expect(storing().catch((error: unknown) => refusalOf(error, 'load').reason)).resolves.toBe('storage-full');
      await store.clean('labels', ['a']);
      expect(await readdir(join(dir, 'models', 'labels'))).toEqual(['a', 'state.1', 'state.2']);
      expect(await activeDigest(dir)).toBe(packA.digest);
      // Too little from the beginning: told before a piece of the model is asked for.
      for (const piece of (await store.plan(one)).missing)
        await store.store('labels', piece, packB.blobs.get(piece.digest) ?? new Uint8Array());
      await expect(store.plan(one)).rejects.toMatchObject({ reason: 'storage-full' });
    } finally {
      execFileSync('umount', [dir]);
    }
  },
);
