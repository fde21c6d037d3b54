import { agentStatus, hasIdentity, provisionAgent, startAgent } from '@flotilla/agent';
import { loadBoard } from '@flotilla/boards';
import { describeFailure } from '@flotilla/protocol';
import type { CommandModule } from 'yargs';
import { CliError } from '../errors.ts';
import { untilInterrupted } from '../interrupt.ts';
import { HTTP_SCHEMES, MQTT_SCHEMES, nameOf, numberIn, urlOf } from '../option-values.ts';
import { controllerOption, threadsOption, tokenOption } from '../options.ts';
import { type Globals, print, say } from '../output.ts';
import { bytes, table } from '../text.ts';
import { readToken } from '../token.ts';

interface ProvisionArgs extends Globals {
  readonly controller: string;
  readonly token: string | undefined;
  readonly identity: string;
  readonly board: string;
  readonly name: string | undefined;
  readonly fleet: string | undefined;
}

const provision: CommandModule<Globals, ProvisionArgs> = {
  command: 'provision',
  describe: 'Make this device known to its controller and write its identity',
  builder: (args) =>
    args
      .option('controller', controllerOption())
      .option('token', tokenOption())
      .option('identity', { type: 'string', demandOption: true, describe: 'Folder for identity.json (mode 0600)' })
      .option('board', { type: 'string', demandOption: true, describe: 'What this device is' })
      .option('name', {
        type: 'string',
        coerce: nameOf('name'),
        describe: 'Device name; default: the controller chooses',
      })
      .option('fleet', { type: 'string', coerce: nameOf('fleet'), describe: "Default: the controller's" })
      .example('flotilla agent provision --board raspberrypi-5 --identity /etc/flotilla', 'on the device, once'),
  async handler(argv) {
    const { controller, identity, board, name, fleet } = argv;
    const token = await readToken(argv.token);
    await loadBoard(board); // one that nobody knows could be provisioned, and never start
    const signal = untilInterrupted();
    const made = await provisionAgent({
      controllerUrl: controller,
      token,
      identityDir: identity,
      board,
      name,
      fleet,
      signal,
    });
    const { device, brokerUrl } = made;
    print(
      argv,
      { device, fleet: made.fleet, board: made.board, brokerUrl, identity },
      () => `${device} may now start: flotilla agent start --identity ${identity}`,
    );
  },
};

interface StartArgs extends Globals {
  readonly data: string;
  readonly identity: string;
  readonly controller: string | undefined;
  readonly token: string | undefined;
  readonly broker: string | undefined;
  readonly board: string | undefined;
  readonly threads: number;
  readonly 'memory-cap': number | undefined;
  readonly 'measure-seconds': number;
}

const start: CommandModule<Globals, StartArgs> = {
  command: 'start',
  describe: 'Run the agent until it is stopped',
  builder: (args) =>
    args
      .option('data', { type: 'string', default: './agent', describe: 'Folder of its slots and state' })
      .option('identity', { type: 'string', default: './identity', describe: 'Folder that `provision` wrote' })
      .option('controller', {
        type: 'string',
        conflicts: 'broker',
        coerce: urlOf('controller', HTTP_SCHEMES, 'http://127.0.0.1:8080'),
        describe: 'Without an identity yet: provision at this URL first, with --token and --board',
      })
      .option('token', tokenOption())
      .option('broker', {
        type: 'string',
        coerce: urlOf('broker', MQTT_SCHEMES, 'mqtt://127.0.0.1:1883'),
        describe: "MQTT URL instead of the identity's",
      })
      .option('board', { type: 'string', describe: "Board instead of the identity's" })
      .option('threads', threadsOption())
      .option('memory-cap', {
        type: 'number',
        coerce: numberIn('memory-cap', { least: 1_000_000, whole: true }),
        describe: "Bytes of RSS at which a model's process is ended",
      })
      .option('measure-seconds', {
        type: 'number',
        default: 1,
        coerce: numberIn('measure-seconds', { least: 0.01, most: 3600 }),
        describe: "How long a new release is measured against its pack's latency budget",
      })
      .example('flotilla agent start --identity /etc/flotilla --data /var/lib/flotilla', 'what the systemd unit runs')
      .example(
        'flotilla agent start --controller http://fleet:8080 --token @provision.token --board raspberrypi-5',
        'on a new device: gets its identity, then runs',
      ),
  async handler(argv) {
    const measureMs = 1000 * argv['measure-seconds'];
    const signal = untilInterrupted();
    await provisionOnce(argv, signal);
    const agent = await startAgent({
      dataDir: argv.data,
      identity: argv.identity,
      brokerUrl: argv.broker,
      board: argv.board,
      threads: argv.threads,
      memoryCapBytes: argv['memory-cap'],
      measureMs,
      log: (line) => say(argv, line),
    });
    print(
      argv,
      { device: agent.device, online: agent.online, pid: process.pid },
      ({ device, online }) => `${device} is ${online ? 'online' : 'waiting for its broker'}`,
    );
    signal.addEventListener('abort', () => void agent.close(), { once: true });
    if (signal.aborted) await agent.close();
    await agent.done;
  },
};

/** A device that has its identity keeps it: the same command line starts it every time. */
async function provisionOnce({ controller, identity, board, token }: StartArgs, signal: AbortSignal): Promise<void> {
  if (controller === undefined || (await hasIdentity(identity))) return;
  if (board === undefined) throw new CliError('cli/usage', '--board is missing: what is this device?');
  await loadBoard(board);
  await provisionAgent({
    controllerUrl: controller,
    token: await readToken(token),
    identityDir: identity,
    board,
    signal,
  });
}

const status: CommandModule<Globals, Globals & { data: string }> = {
  command: 'status',
  describe: 'Show what the agent on a data folder last reported',
  builder: (args) =>
    args
      .option('data', { type: 'string', default: './agent', describe: 'Folder of its slots and state' })
      .example('flotilla agent status --data /var/lib/flotilla', 'also while it does not run'),
  async handler(argv) {
    print(argv, await agentStatus(argv.data), (report) =>
      [
        `${report.device} (${report.board}): ${report.running ? (report.online ? 'online' : 'offline') : 'not running'}`,
        table(
          ['model', 'state', 'loaded', 'done', 'why'],
          report.models.map((m) => [
            m.name,
            m.state,
            m.loadedDigest || '–',
            bytes(m.bytesDone),
            m.detail || (m.reason === undefined ? '' : describeFailure(m.reason)),
          ]),
        ),
      ].join('\n'),
    );
  },
};

export const agent: CommandModule<Globals, Globals> = {
  command: 'agent',
  describe: 'The agent on a device',
  builder: (args) =>
    args
      .command(provision)
      .command(start)
      .command(status)
      .demandCommand(1, 1, 'which: provision, start or status?')
      .example('flotilla agent provision --help', 'each has examples of its own'),
  handler() {},
};
