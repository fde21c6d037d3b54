import { type Controller, ControllerClient, startController } from '@flotilla/controller';
import { generateKey, writeKeyPair } from '@flotilla/pack';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { databaseTemplate, dataDir } from '../../packages/controller/test/support/data-dir.ts';
import { makePack } from '../../packages/controller/test/support/packs.ts';

const mounted: string[] = [];
let controller: Controller | undefined;

afterEach(async () => {
  await controller?.close();
  for (const dir of mounted.splice(0)) spawnSync('umount', [dir]);
});

function mountSmallDisk(dir: string): boolean {
  const isMounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', dir]).status === 0;
  if (isMounted) mounted.push(dir);
  return isMounted;
}

test('the disk for packs fills during an upload: one clear error, nothing half stays, a smaller pack fits', async (context) => {
  const dir = await dataDir();
  const packs = join(dir, 'packs');
  await mkdir(packs);
  if (!mountSmallDisk(packs)) return context.skip('mounting a small disk needs root');
  const scratch = await mkdtemp(join(tmpdir(), 'flotilla-disk-'));
  const key = generateKey();
  const { publicFile } = await writeKeyPair(join(scratch, 'keys'), key);
  controller = await startController({
    dataDir: dir,
    databaseTemplate,
    mqtt: { listen: '127.0.0.1:0' },
    http: '127.0.0.1:0',
    trustedKeys: [publicFile],
  });
  const token = (await readFile(controller.adminTokenFile, 'utf8')).trim();
  const client = new ControllerClient({ url: controller.httpUrl, token });
  const large = await makePack(scratch, 1, key, 3_000_000);
  const small = await makePack(scratch, 2, key, 300_000);
  await expect(client.publish(large.path, 'labels', '1.0.0')).rejects.toMatchObject({
    code: 'controller/data-dir',
    message: expect.stringContaining('ENOSPC'),
  });
  expect(await readdir(join(packs, 'incoming'))).toEqual([]);
  expect(await client.publish(small.path, 'labels', '1.0.0')).toMatchObject({ digest: small.digest });
}, 120_000);
