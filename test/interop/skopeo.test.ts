import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPack, generateKey, openPack, type PackContents } from '@flotilla/pack';
import { describe, expect, test } from 'vitest';

const skopeo = spawnSync('skopeo', ['--version'], { encoding: 'utf8' });
if (skopeo.status !== 0) console.warn('skipped: skopeo is not installed, so its copies of packs were not checked');

const contents: PackContents = {
  name: 'labels',
  task: 'tensor',
  weights: 'int8',
  parameters: 2_700_000,
  sourceBytes: 10_800_000,
  golden: null,
  latencyBudgetUs: {},
  annotations: {},
  files: [
    { path: 'model.onnx', role: 'model', source: new Uint8Array(3 << 20).fill(7) },
    { path: 'text/keys.txt', role: 'keys', source: new TextEncoder().encode('a\nb\n') },
    { path: 'plan.bin', role: 'flight-plan', source: Uint8Array.of(1, 2, 3) }, // a role nobody knows
  ],
};

function copy(from: string, to: string): void {
  execFileSync('skopeo', ['--insecure-policy', 'copy', '--quiet', from, to], { stdio: 'pipe' });
}

async function blobsIn(dir: string): Promise<{ readonly [name: string]: string }> {
  const names = await readdir(join(dir, 'blobs/sha256'));
  const read = async (name: string) =>
    [name, (await readFile(join(dir, 'blobs/sha256', name))).toString('base64')] as const;
  return Object.fromEntries(await Promise.all(names.map(read)));
}

describe.skipIf(skopeo.status !== 0)('skopeo copy leaves a signed pack unharmed', () => {
  const key = generateKey();

  test.each(['pack', 'labels.pack'])('%s → oci → oci-archive → oci', async (name) => {
    const dir = await mkdtemp(join(tmpdir(), 'skopeo-'));
    const source = join(dir, name);
    const made = await createPack(source, contents, { key });
    const transport = name.endsWith('.pack') ? 'oci-archive' : 'oci';
    copy(`${transport}:${source}`, `oci:${dir}/a:v1`);
    copy(`oci:${dir}/a:v1`, `oci-archive:${dir}/b.tar:v1`);
    copy(`oci-archive:${dir}/b.tar:v1`, `oci:${dir}/c`);
    await createPack(join(dir, 'original'), contents, { key });
    for (const copied of ['a', 'b.tar', 'c']) {
      const pack = await openPack(join(dir, copied), { trusted: [key.publicKey] });
      expect(pack.digest).toBe(made.digest);
      expect(pack.signedBy).toBe(key.publicKey.keyId);
      await pack.close();
    }
    expect(await blobsIn(join(dir, 'c'))).toEqual(await blobsIn(join(dir, 'original')));
  });
});
