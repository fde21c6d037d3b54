import { join } from 'node:path';
import { decodeModel, encodeModel, floats, type Model } from '@flotilla/onnx';
import { createPack, openPack, readPrivateKey, type SourceFile } from '@flotilla/pack';
import type { Compiled, DemoPack } from './compile-models.ts';
import type { Fleet } from './fleet.ts';
import type { BadReleaseResult, TimelineEntry } from './result.ts';
import { rollOut } from './roll-out.ts';
import type { Screen } from './screen.ts';
import { withBallast, withWrongWeights } from './spoil.ts';

/** Of 33.6 million multiplications and additions each: a third of a second to three seconds a run, by the machine. */
const BALLAST = 1000;

export interface BadReleases {
  readonly results: readonly BadReleaseResult[];
  readonly timeline: readonly TimelineEntry[];
}

/**
 * Publishes two releases that are rightly signed and wrong, one of each model, both at once.
 * @throws where one gets past the canary, or harms a device
 */
export async function refuseBadReleases(
  work: string,
  fleet: Fleet,
  compiled: Compiled,
  screen: Screen,
): Promise<BadReleases> {
  const [labels, commands] = compiled.packs;
  const releases: readonly BadRelease[] = [
    { good: commands, version: '2.0.0-bad', spoil: withWrongWeights, reason: 'golden-mismatch' },
    { good: labels, version: '2.0.0-slow', spoil: (model) => withBallast(model, BALLAST), reason: 'latency-budget' },
  ];
  const refused = await Promise.all(
    releases.map(async (release) => {
      const path = join(work, `${release.good.name}-${release.version}.pack`);
      const pack = await spoilt(release, path, compiled.keys.privateFile);
      return refuse(release, pack, fleet, screen);
    }),
  );
  return { results: refused.map(({ result }) => result), timeline: refused.flatMap(({ timeline }) => timeline) };
}

interface BadRelease {
  readonly good: DemoPack;
  readonly version: string;
  readonly spoil: (model: Model, floatsOf: (name: string) => Float32Array) => Model;
  readonly reason: string;
}

async function refuse(
  { good: { name }, version, reason }: BadRelease,
  pack: DemoPack,
  fleet: Fleet,
  screen: Screen,
): Promise<{ readonly result: BadReleaseResult; readonly timeline: readonly TimelineEntry[] }> {
  const before = await loaded(fleet, name);
  const { rollout, timeline } = await rollOut(fleet.client, pack, version, screen, 'stopped');
  const tried = rollout.devices.filter(({ status }) => status !== 'untouched' && status !== 'queued');
  const failure = tried.find(({ failure }) => failure !== null)?.failure;
  if (failure !== reason) throw new Error(`${version} was refused for ${failure}, not ${reason}`);
  const after = await loaded(fleet, name);
  const broken = [...before].filter(([device, digest]) => after.get(device) !== digest);
  if (tried.length !== 1 || broken.length > 0)
    throw new Error(`${version} reached ${tried.length} devices and broke ${broken.length}`);
  const result = {
    name: `${name}@${version}`,
    reason: rollout.reason ?? '',
    devicesTried: tried.length,
    devicesBroken: broken.length,
  };
  return { result, timeline };
}

/** The digest that each device says it has loaded. */
async function loaded(fleet: Fleet, name: string): Promise<ReadonlyMap<string, string | null>> {
  const devices = await fleet.client.devices();
  return new Map(
    devices.map(({ id, models }) => [id, models.find((model) => model.name === name)?.loadedDigest ?? null]),
  );
}

/** The same pack, golden vectors and budget included, around a spoilt model. */
async function spoilt({ good, spoil }: BadRelease, out: string, keyFile: string): Promise<DemoPack> {
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

function spoiltBytes(bytes: Uint8Array, spoil: BadRelease['spoil']): Uint8Array {
  const model = decodeModel(bytes);
  return encodeModel(
    spoil(model, (name) => {
      const tensor = model.graph.constant(name);
      if (tensor === undefined) throw new Error(`${name} is no constant`);
      return floats(tensor);
    }),
  );
}
