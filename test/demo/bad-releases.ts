import { join } from 'node:path';
import { decodeModel, encodeModel, floats, type Model } from '@flotilla/onnx';
import { createPack, openPack, readPrivateKey, type SourceFile } from '@flotilla/pack';
import type { Compiled, DemoPack } from './compile-models.ts';
import type { Fleet } from './fleet.ts';
import type { BadReleaseResult, TimelineEntry } from './result.ts';
import { rollOut } from './roll-out.ts';
import type { Screen } from './screen.ts';
import { withBallast, withWrongWeights } from './spoil.ts';

/** Of 33.6 million multiplications and additions each: one to five seconds a run, by the machine. */
const BALLAST = 1600;

export interface BadReleases {
  readonly results: readonly BadReleaseResult[];
  readonly timeline: readonly TimelineEntry[];
}

/** Publishes two releases that are rightly signed and wrong. @throws where one gets past the canary, or harms a device */
export async function refuseBadReleases(
  work: string,
  fleet: Fleet,
  compiled: Compiled,
  screen: Screen,
): Promise<BadReleases> {
  const [labels] = compiled.packs;
  const results: BadReleaseResult[] = [];
  const timeline: TimelineEntry[] = [];
  for (const { version, spoil, reason } of [
    { version: '2.0.0-bad', spoil: withWrongWeights, reason: 'golden-mismatch' },
    { version: '2.0.0-slow', spoil: (model: Model) => withBallast(model, BALLAST), reason: 'latency-budget' },
  ]) {
    const before = await loaded(fleet, labels.name);
    const pack = await spoilt(labels, join(work, `labels-${version}.pack`), compiled.keys.privateFile, spoil);
    const { rollout, timeline: entries } = await rollOut(fleet.client, pack, version, screen, 'stopped');
    timeline.push(...entries);
    const tried = rollout.devices.filter(({ status }) => status !== 'untouched' && status !== 'queued');
    const failure = tried.find(({ failure }) => failure !== null)?.failure;
    if (failure !== reason) throw new Error(`${version} was refused for ${failure}, not ${reason}`);
    const after = await loaded(fleet, labels.name);
    const broken = [...before].filter(([device, digest]) => after.get(device) !== digest);
    results.push({
      name: `labels@${version}`,
      reason: rollout.reason ?? '',
      devicesTried: tried.length,
      devicesBroken: broken.length,
    });
    if (tried.length !== 1 || broken.length > 0)
      throw new Error(`${version} reached ${tried.length} devices and broke ${broken.length}`);
  }
  return { results, timeline };
}

/** The digest that each device says it has loaded. */
async function loaded(fleet: Fleet, name: string): Promise<ReadonlyMap<string, string | null>> {
  const devices = await fleet.client.devices();
  return new Map(
    devices.map(({ id, models }) => [id, models.find((model) => model.name === name)?.loadedDigest ?? null]),
  );
}

/** The same pack, golden vectors and budget included, around a spoilt model. */
async function spoilt(
  good: DemoPack,
  out: string,
  keyFile: string,
  spoil: (model: Model, floatsOf: (name: string) => Float32Array) => Model,
): Promise<DemoPack> {
  const pack = await openPack(good.path);
  try {
    const files: SourceFile[] = [];
    for (const { path, role } of pack.config.files) {
      const bytes = await pack.file(path);
      files.push({ path, role, source: role === 'model' ? spoiltBytes(bytes, spoil) : bytes });
    }
    const { format: _, ...contents } = pack.config;
    await createPack(out, { ...contents, files }, { key: await readPrivateKey(keyFile) });
    return { name: good.name, path: out };
  } finally {
    await pack.close();
  }
}

function spoiltBytes(
  bytes: Uint8Array,
  spoil: (model: Model, floatsOf: (name: string) => Float32Array) => Model,
): Uint8Array {
  const model = decodeModel(bytes);
  return encodeModel(
    spoil(model, (name) => {
      const tensor = model.graph.constant(name);
      if (tensor === undefined) throw new Error(`${name} is no constant`);
      return floats(tensor);
    }),
  );
}
