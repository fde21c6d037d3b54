import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ControllerClient } from '@flotilla/controller';
import { root } from '../tiers/run.ts';
import type { Processes } from './processes.ts';
import type { Screen } from './screen.ts';

export interface Fleet {
  readonly client: ControllerClient;
  readonly httpUrl: string;
  readonly mqttUrl: string;
  readonly devices: readonly { readonly device: string; readonly board: string }[];
}

const DEVICES = [
  { device: 'dock', board: 'raspberrypi-5' },
  { device: 'gate', board: 'raspberrypi-4b' },
  { device: 'shed', board: 'raspberrypi-zero-2w' },
] as const;

/** Some 40 lines, 300 tokens: enough for a median against a budget. */
const MEASURE_SECONDS = '0.4';

/** A controller and three agents as real processes of the command line, each with its own identity and folder. */
export async function startFleet(work: string, trustedKey: string, processes: Processes): Promise<Fleet> {
  const data = join(work, 'controller');
  const controller = await processes.start([
    'controller',
    'start',
    '--data',
    data,
    '--listen',
    '127.0.0.1:0',
    '--http',
    '127.0.0.1:0',
    '--database-template',
    join(root, '.cache', 'database-template'),
    '--trust',
    trustedKey,
  ]);
  const { httpUrl, mqttUrl, adminTokenFile } = controller as {
    httpUrl: string;
    mqttUrl: string;
    adminTokenFile: string;
  };
  await Promise.all(DEVICES.map((device) => startAgent(work, device, httpUrl, adminTokenFile, processes)));
  const client = new ControllerClient({ url: httpUrl, token: (await readFile(adminTokenFile, 'utf8')).trim() });
  return { client, devices: DEVICES, httpUrl, mqttUrl };
}

export async function showFleet({ client, httpUrl, mqttUrl }: Fleet, screen: Screen): Promise<void> {
  screen.say(`   controller: HTTP ${httpUrl}, MQTT ${mqttUrl}`);
  for (const { id, board, birth } of await client.devices())
    screen.say(`   ${id}: ${board} (${birth?.boardClass ?? 'no birth'})`);
}

async function startAgent(
  work: string,
  { device, board }: { readonly device: string; readonly board: string },
  controller: string,
  tokenFile: string,
  processes: Processes,
): Promise<void> {
  const identity = join(work, device, 'identity');
  await processes.run([
    'agent',
    'provision',
    '--controller',
    controller,
    '--token',
    `@${tokenFile}`,
    '--identity',
    identity,
    '--board',
    board,
    '--name',
    device,
  ]);
  const data = join(work, device, 'data');
  await processes.start([
    'agent',
    'start',
    '--identity',
    identity,
    '--data',
    data,
    '--measure-seconds',
    MEASURE_SECONDS,
  ]);
}
