import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { PrivateKey, PublicKey } from '@flotilla/pack';
import { openDatabase } from './db/open.ts';
import type { Database } from './db/schema.ts';
import { ControllerError } from './errors.ts';
import { openSigningKey, readKeySuccessions, readTrustedKeys } from './keys.ts';
import { lockDataDir } from './lock.ts';
import type { ControllerOptions } from './options.ts';
import { Outbox } from './outbox.ts';
import { PackStore } from './pack-store.ts';
import { Registry } from './registry.ts';
import { RolloutEngine } from './rollout/engine.ts';
import { Timeline } from './timeline.ts';
import { Tokens } from './tokens.ts';
import type { World } from './world.ts';

/** What a controller knows and decides, before it talks to anybody. */
export interface ControllerState {
  readonly db: Database;
  readonly registry: Registry;
  readonly timeline: Timeline;
  readonly tokens: Tokens;
  readonly adminTokenFile: string;
  readonly packs: PackStore;
  readonly key: PrivateKey;
  readonly trustedKeys: readonly PublicKey[];
  readonly outbox: Outbox;
  readonly engine: RolloutEngine;
}

/** Opens the data folder, and takes up the rollouts that an earlier controller left in it. */
export async function openState(options: ControllerOptions, world: World): Promise<ControllerState> {
  const { dataDir } = options;
  const { clock, onError, onFatal, signal, onClose } = world;
  await makeDataDir(dataDir);
  onClose(await lockDataDir(dataDir));
  const key = await openSigningKey(dataDir);
  const trusted = await trustedPaths(options);
  const trustedKeys = await readTrustedKeys(trusted);
  const successions = await readKeySuccessions(dataDir, [key.publicKey, ...trustedKeys], trusted);
  const db = await openDatabase(dataDir, { url: options.database, template: options.databaseTemplate }, onFatal);
  onClose(() => db.destroy());
  const registry = await Registry.load(db);
  const timeline = new Timeline(db);
  await timeline.prune();
  const tokens = await Tokens.load(db, clock);
  const adminTokenFile = await tokens.ensureAdmin(dataDir);
  const packs = await PackStore.open(join(dataDir, 'packs'), trustedKeys);
  onClose(() => packs.close());
  const outbox = new Outbox({ db, registry, key, successions, onError });
  onClose(() => outbox.close());
  await outbox.renew();
  const engine = new RolloutEngine({ db, registry, timeline, outbox, clock, signal });
  onClose(() => engine.close());
  // Before the broker lets a device in: a report that finds no rollout would be lost.
  await engine.takeUp();
  return { db, registry, timeline, tokens, adminTokenFile, packs, key, trustedKeys, outbox, engine };
}

async function makeDataDir(dataDir: string): Promise<void> {
  try {
    await mkdir(dataDir, { recursive: true, mode: 0o700 });
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? 'error';
    throw new ControllerError('controller/data-dir', `cannot make ${dataDir}: ${code}`, { where: dataDir, cause });
  }
}

async function trustedPaths({ dataDir, trustedKeys }: ControllerOptions): Promise<readonly string[]> {
  if (trustedKeys !== undefined) return trustedKeys;
  const folder = join(dataDir, 'trusted');
  await mkdir(folder, { recursive: true });
  return [folder];
}
