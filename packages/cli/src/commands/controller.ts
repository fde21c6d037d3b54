import { startController } from '@flotilla/controller';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { endpointOf, MQTT_SCHEMES, urlOf } from '../option-values.ts';
import { type Globals, print, say } from '../output.ts';
import { setting } from '../settings.ts';

interface StartArgs extends Globals {
  readonly data: string;
  readonly mqtt: string | undefined;
  readonly listen: string | undefined;
  readonly 'public-mqtt': string | undefined;
  readonly http: string | undefined;
  readonly database: string | undefined;
  readonly 'database-template': string | undefined;
  readonly trust: readonly string[] | undefined;
}

const start: CommandModule<Globals, StartArgs> = {
  command: 'start',
  describe: 'Run the controller until it is stopped',
  builder: (args) =>
    args
      .option('data', { type: 'string', default: './controller', describe: 'Folder of its keys, packs and database' })
      .option('listen', {
        type: 'string',
        coerce: endpointOf('listen'),
        describe: 'HOST:PORT of the embedded broker; port 0: any free one. Default 127.0.0.1:1883',
      })
      .option('mqtt', {
        type: 'string',
        conflicts: 'listen',
        coerce: urlOf('mqtt', MQTT_SCHEMES, 'mqtt://127.0.0.1:1883'),
        describe: 'URL of a broker that somebody else runs',
      })
      .option('public-mqtt', {
        type: 'string',
        coerce: urlOf('public-mqtt', MQTT_SCHEMES, 'mqtt://fleet.example.com:1883'),
        describe: 'URL that devices are told to connect to, where it differs',
      })
      .option('http', {
        type: 'string',
        coerce: endpointOf('http'),
        describe: 'HOST:PORT of the HTTP API; port 0: any free one. Default 127.0.0.1:8080',
      })
      .option('database', {
        type: 'string',
        coerce: urlOf('database', ['postgres:', 'postgresql:'], 'postgres://USER@HOST/DATABASE'),
        describe: 'PostgreSQL URL; default: an embedded database',
      })
      .option('database-template', {
        type: 'string',
        conflicts: 'database',
        describe: 'Copy of an empty embedded database that a first start begins with; made where it is missing',
      })
      .option('trust', {
        type: 'string',
        array: true,
        ...trusted(),
        describe: 'Public keys of which one must have signed a pack: files or folders',
      })
      .example(
        'flotilla controller start --data /var/lib/flotilla --listen 0.0.0.0:1883 --trust release.pub',
        'embedded broker and database',
      ),
  async handler(argv) {
    const signal = untilInterrupted();
    const { mqtt, listen } = argv;
    const controller = await startController({
      dataDir: argv.data,
      mqtt: mqtt === undefined ? { listen } : { url: mqtt },
      publicMqttUrl: argv['public-mqtt'],
      http: argv.http,
      database: argv.database,
      databaseTemplate: argv['database-template'],
      trustedKeys: argv.trust,
      log: (line) => say(argv, line),
    });
    const { mqttUrl, httpUrl, adminTokenFile } = controller;
    print(
      argv,
      { httpUrl, mqttUrl, adminTokenFile, pid: process.pid },
      () => `HTTP ${httpUrl}\nMQTT ${mqttUrl}\nadmin token in ${adminTokenFile}`,
    );
    signal.addEventListener('abort', () => void controller.close(), { once: true });
    if (signal.aborted) await controller.close();
    await controller.done;
  },
};

export const controller: CommandModule<Globals, Globals> = {
  command: 'controller',
  describe: 'The server that devices report to',
  builder: (args) =>
    args
      .command(start)
      .demandCommand(1, 1, 'which: start?')
      .example(
        'flotilla controller start --data ./controller',
        'a broker, a database and the HTTP API on this machine',
      ),
  handler() {},
};

/** yargs makes `[undefined]` of an array's undefined default. */
function trusted(): { readonly default?: string[] } {
  const key = setting('trust');
  return key === undefined ? {} : { default: [key] };
}
