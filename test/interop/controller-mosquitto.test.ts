import { type Controller, ControllerClient, startController } from '@flotilla/controller';
import { generateKey, writeKeyPair } from '@flotilla/pack';
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { access, chmod, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { freePort } from '../../packages/controller/test/support/controller-process.ts';
import { databaseTemplate, dataDir } from '../../packages/controller/test/support/data-dir.ts';
import { FakeDevice } from '../../packages/controller/test/support/fake-device.ts';
import { makePack } from '../../packages/controller/test/support/packs.ts';

const mosquitto = '/usr/sbin/mosquitto';
const isThere = await access(mosquitto).then(
  () => true,
  () => false,
);

/** The rules as packages/controller/README.md gives them. */
async function aclOfReadme(): Promise<string> {
  const readme = await readFile(new URL('../../packages/controller/README.md', import.meta.url), 'utf8');
  return readme
    .split('\n')
    .filter((line) => line.startsWith('pattern '))
    .join('\n');
}

describe.skipIf(!isThere)(
  `a controller with Mosquitto as its broker${isThere ? '' : ' (skipped: no mosquitto)'}`,
  () => {
    let broker: ChildProcess;
    let controller: Controller;
    let client: ControllerClient;
    let brokerDir: string;
    let port: number;
    let scratch: string;
    const key = generateKey();
    const devices: FakeDevice[] = [];

    async function addUser(name: string, password: string): Promise<void> {
      await promisify(execFile)('mosquitto_passwd', ['-b', join(brokerDir, 'users'), name, password]);
      await chmod(join(brokerDir, 'users'), 0o644); // root's Mosquitto gives up its rights
      broker?.kill('SIGHUP');
    }

    async function startBroker(): Promise<void> {
      broker = spawn(mosquitto, ['-c', join(brokerDir, 'conf')], { stdio: 'ignore' });
      while (!(await canConnect(port))) await new Promise((resolve) => setTimeout(resolve, 50));
    }

    beforeAll(async () => {
      brokerDir = await mkdtemp(join(tmpdir(), 'flotilla-mosquitto-'));
      await chmod(brokerDir, 0o755);
      port = await freePort();
      await writeFile(join(brokerDir, 'users'), '');
      await writeFile(
        join(brokerDir, 'acl'),
        `user controller\ntopic readwrite flotilla/v1/#\n\n${await aclOfReadme()}\n`,
      );
      await writeFile(
        join(brokerDir, 'conf'),
        `listener ${port} 127.0.0.1\nallow_anonymous false\npassword_file ${brokerDir}/users\nacl_file ${brokerDir}/acl\npersistence false\n`,
      );
      await addUser('controller', 'secret');
      await startBroker();
      scratch = await mkdtemp(join(tmpdir(), 'flotilla-mosquitto-packs-'));
      const { publicFile } = await writeKeyPair(join(scratch, 'keys'), key);
      controller = await startController({
        databaseTemplate,
        dataDir: await dataDir(),
        mqtt: { url: `mqtt://controller:secret@127.0.0.1:${port}` },
        http: '127.0.0.1:0',
        trustedKeys: [publicFile],
      });
      client = new ControllerClient({
        url: controller.httpUrl,
        token: (await readFile(controller.adminTokenFile, 'utf8')).trim(),
      });
      for (const device of ['d0', 'd1']) {
        const identity = await client.provision({ board: 'fake', device });
        expect(identity.brokerUrl).toBe(`mqtt://127.0.0.1:${port}`); // without the controller's own password
        await addUser(device, identity.secret);
        devices.push(await new FakeDevice({ identity, downloads: true }).connected());
      }
    }, 120_000);

    afterAll(async () => {
      await Promise.all(devices.map((device) => device.stop()));
      await controller?.close();
      broker?.kill('SIGKILL');
    }, 60_000);

    async function rollOut(version: number, meanwhile: () => Promise<void>): Promise<void> {
      const { path, digest } = await makePack(scratch, version, key, 300_000);
      await client.publish(path, 'labels', `${version}.0.0`);
      await expect
        .poll(async () => (await client.devices()).filter(({ online }) => online).length, { timeout: 20_000 })
        .toBe(2);
      const { id } = await client.createRollout({ release: `labels@${version}.0.0` });
      await meanwhile();
      let last = '';
      for await (const { phase } of client.watch(id)) last = phase;
      expect(last).toBe('done');
      expect(devices.map(({ loaded }) => loaded)).toEqual([digest, digest]);
    }

    test('a rollout, with the access rules of the README', () => rollOut(1, async () => undefined), 60_000);

    test('the broker is killed and comes back empty in the middle of one', async () => {
      await rollOut(2, async () => {
        broker.kill('SIGKILL');
        await startBroker();
      });
    }, 60_000);

    test('a device that was away while the broker came back empty hears what it shall hold', async () => {
      const identity = await client.provision({ board: 'fake', device: 'late' });
      await addUser('late', identity.secret);
      const before = await new FakeDevice({ identity }).connected();
      const { path, digest } = await makePack(scratch, 3, key);
      await client.publish(path, 'other', '3.0.0');
      const { id } = await client.createRollout({ release: 'other@3.0.0', to: "device = 'late'" });
      for await (const _ of client.watch(id));
      await before.stop();
      broker.kill('SIGKILL');
      await startBroker();
      const after = new FakeDevice({ identity });
      devices.push(after);
      await expect.poll(() => after.desired.at(-1)?.digest, { timeout: 20_000 }).toBe(digest);
    }, 60_000);

    test('a wrong password is one clear line', async () => {
      const url = `mqtt://controller:wrong@127.0.0.1:${port}`;
      await expect(
        startController({ databaseTemplate, dataDir: await dataDir(), mqtt: { url }, http: '127.0.0.1:0' }),
      ).rejects.toMatchObject({
        code: 'controller/broker',
        message: expect.stringMatching(/not authori[sz]ed/i),
      });
    }, 60_000);
  },
);

function canConnect(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => resolve(true)).on('error', () => resolve(false));
    socket.on('connect', () => socket.destroy());
  });
}
