import type { DeviceView, TelemetryView } from '@flotilla/controller';
import type { CommandModule } from 'yargs';
import { type Connection, connect, withConnection } from '../client.ts';
import { numberIn } from '../option-values.ts';
import { type Globals, print } from '../output.ts';
import { readJson } from '../read-json.ts';
import { bytes, ms, table } from '../text.ts';

type Args = Globals & Connection;
type OneArgs = Args & { readonly device: string };

const ls: CommandModule<Globals, Args> = {
  command: 'ls',
  describe: 'List devices and what each has loaded',
  builder: (args) => withConnection(args).example('flotilla device ls --json', 'for scripts'),
  async handler(argv) {
    const client = await connect(argv);
    print(argv, { devices: await client.devices() }, ({ devices }) =>
      table(['device', 'board', 'tags', 'online', 'models'], devices.map(deviceRow)),
    );
  },
};

const show: CommandModule<Globals, OneArgs> = {
  command: 'show <device>',
  describe: 'Show one device: models, states, latency as the controller received it',
  builder: (args) =>
    withConnection(args)
      .positional('device', { type: 'string', demandOption: true, describe: 'Its id, see device ls' })
      .example('flotilla device show pi-attic', 'what it has loaded, how fast it is'),
  async handler(argv) {
    const client = await connect(argv);
    const [device, telemetry] = await Promise.all([client.device(argv.device), client.telemetry(argv.device)]);
    print(argv, { ...device, telemetry }, () => `${deviceText(device)}\n\n${telemetryTable(telemetry)}`);
  },
};

const tag: CommandModule<Globals, OneArgs & { readonly tags: readonly string[] }> = {
  command: 'tag <device> [tags..]',
  describe: "Set a device's tags; none clears them",
  builder: (args) =>
    withConnection(args)
      .positional('device', { type: 'string', demandOption: true, describe: 'Its id, see device ls' })
      .positional('tags', { type: 'string', array: true, default: [], describe: 'What --to can ask for' })
      .example('flotilla device tag pi-attic lab indoor', 'rollout create --to "tag = \'lab\'" finds it'),
  async handler(argv) {
    const client = await connect(argv);
    print(argv, await client.tag(argv.device, argv.tags), deviceText);
  },
};

const rm: CommandModule<Globals, OneArgs> = {
  command: 'rm <device>',
  describe: 'Remove a device: its identity is accepted no more, rollouts go on without it',
  builder: (args) =>
    withConnection(args)
      .positional('device', { type: 'string', demandOption: true, describe: 'Its id, see device ls' })
      .example('flotilla device rm pi-attic', 'what it measured stays; to come back it is provisioned again'),
  async handler(argv) {
    const client = await connect(argv);
    print(argv, await client.removeDevice(argv.device), ({ id }) => `${id} is removed`);
  },
};

interface CallArgs extends OneArgs {
  readonly model: string;
  readonly prompt: string | undefined;
  readonly 'max-tokens': number | undefined;
  readonly temperature: number | undefined;
  readonly seed: number | undefined;
  readonly schema: string | undefined;
  readonly adapter: string | undefined;
  readonly 'bench-seconds': number | undefined;
}

const call: CommandModule<Globals, CallArgs> = {
  command: 'call <device> <model>',
  describe: 'Ask a model on a device, or let it measure itself',
  builder: (args) =>
    withConnection(args)
      .positional('device', { type: 'string', demandOption: true, describe: 'Its id, see device ls' })
      .positional('model', { type: 'string', demandOption: true, describe: 'Name of a model that it has loaded' })
      .option('prompt', { type: 'string', describe: 'For a language model' })
      .option('max-tokens', {
        type: 'number',
        coerce: numberIn('max-tokens', { least: 1, most: 65_536, whole: true }),
        describe: 'Longest answer',
      })
      .option('temperature', {
        type: 'number',
        coerce: numberIn('temperature', { least: 0, most: 100 }),
        describe: 'Above 0: draw tokens instead of taking the best',
      })
      .option('seed', {
        type: 'number',
        coerce: numberIn('seed', { least: 0, most: 0xffff_ffff, whole: true }),
        describe: 'The same seed draws the same text',
      })
      .option('schema', { type: 'string', describe: 'File with a JSON Schema that the answer is valid against' })
      .option('adapter', { type: 'string', describe: 'One of those beside the model in its pack; default: none' })
      .option('bench-seconds', {
        type: 'number',
        conflicts: 'prompt',
        coerce: numberIn('bench-seconds', { least: 0.001, most: 3600 }),
        describe: 'Run the golden inputs for so long and send telemetry',
      })
      .example(
        'flotilla device call pi-attic commands --prompt "switch off the fan in the attic =>"',
        'its answer comes back over MQTT',
      ),
  async handler(argv) {
    const client = await connect(argv);
    const seconds = argv['bench-seconds'];
    const answer = await client.call(argv.device, {
      name: argv.model,
      prompt: argv.prompt,
      maxTokens: argv['max-tokens'],
      temperature: argv.temperature,
      seed: argv.seed,
      schema: argv.schema === undefined ? undefined : JSON.stringify(await readJson('--schema', argv.schema)),
      adapter: argv.adapter,
      benchMs: seconds === undefined ? undefined : Math.round(seconds * 1000),
    });
    print(argv, answer, ({ text }) => text || 'measured; see flotilla device show');
  },
};

export const device: CommandModule<Globals, Globals> = {
  command: 'device',
  describe: 'Devices that the controller knows',
  builder: (args) =>
    args
      .command(ls)
      .command(show)
      .command(tag)
      .command(rm)
      .command(call)
      .demandCommand(1, 1, 'which: ls, show, tag, rm or call?')
      .example('flotilla device ls', 'who is online, and with what'),
  handler() {},
};

function deviceRow(d: DeviceView): string[] {
  const models = d.models.map((m) => `${m.name}@${m.version ?? '–'} ${m.state ?? ''}`.trim());
  return [d.id, d.board, d.tags.join(' '), d.online ? 'yes' : 'no', models.join(', ')];
}

function deviceText(d: DeviceView): string {
  const head = `${d.id} (${d.board}), ${d.online ? 'online' : 'offline'}${d.tags.length > 0 ? `, tags ${d.tags.join(' ')}` : ''}`;
  const rows = d.models.map((m) => [
    m.name,
    m.version ?? '–',
    m.state ?? '–',
    m.loadedDigest?.slice(0, 19) ?? '–',
    m.detail,
  ]);
  return `${head}\n${table(['model', 'version', 'state', 'loaded', 'why'], rows)}`;
}

function telemetryTable(telemetry: readonly TelemetryView[]): string {
  const rows = telemetry.map(({ name, version, latency: l, throughputPerS, text, peakRssBytes, weightsBytes }) => [
    `${name}@${version ?? '–'}`,
    ms(l.p50Us),
    ms(l.p90Us),
    ms(l.p95Us),
    ms(l.p99Us),
    throughputPerS.toFixed(1),
    text === null ? '–' : `${text.timeToFirstTokenMs.toFixed(1)} ms`,
    text === null ? '–' : text.tokensPerSecond.toFixed(1),
    bytes(peakRssBytes),
    bytes(weightsBytes),
  ]);
  return table(
    ['release', 'p50', 'p90', 'p95', 'p99', 'runs/s', 'first token', 'tokens/s', 'peak RSS', 'weights'],
    rows,
  );
}
