import type { RolloutDeviceView, RolloutView } from '@flotilla/controller';
import type { Argv, CommandModule } from 'yargs';
import { type Connection, connect, withConnection } from '../client.ts';
import { EXIT } from '../failure.ts';
import { untilInterrupted } from '../interrupt.ts';
import { numberIn } from '../option-values.ts';
import { type Globals, print, say } from '../output.ts';
import { percent, table } from '../text.ts';

type Args = Globals & Connection;
type OneArgs = Args & { readonly id: string };

interface CreateArgs extends Args {
  readonly release: string;
  readonly to: string;
  readonly canary: number;
  readonly 'health-seconds': number;
  readonly 'deadline-seconds': number;
  readonly watch: boolean;
}

const DAY_SECONDS = 86_400;

const create: CommandModule<Globals, CreateArgs> = {
  command: 'create <release>',
  describe: 'Roll a release out: canary first, then the rest; the first failure stops it',
  builder: (args) =>
    withConnection(args)
      .positional('release', { type: 'string', demandOption: true, describe: 'NAME@VERSION' })
      .option('to', {
        type: 'string',
        default: 'all',
        describe: `Which devices, e.g. "board = 'raspberrypi-5' and tag = 'attic'"`,
      })
      .option('canary', {
        type: 'number',
        default: 1,
        coerce: numberIn('canary', { least: 0, most: 100_000, whole: true }),
        describe: 'How many devices go first',
      })
      .option('health-seconds', {
        type: 'number',
        default: 10,
        coerce: numberIn('health-seconds', { least: 0, most: DAY_SECONDS }),
        describe: 'How long a new model must serve before it is committed',
      })
      .option('deadline-seconds', {
        type: 'number',
        default: 600,
        coerce: numberIn('deadline-seconds', { least: 1, most: DAY_SECONDS }),
        describe: 'The longest a device may stay in one state',
      })
      .option('watch', { type: 'boolean', default: false, describe: 'Stay until it has ended' })
      .example('flotilla rollout create labels@1.4.0 --watch', 'exit code 4 if it stops'),
  async handler(argv) {
    const client = await connect(argv);
    const rollout = await client.createRollout({
      release: argv.release,
      to: argv.to,
      canary: argv.canary,
      healthWindowMs: Math.round(argv['health-seconds'] * 1000),
      stateDeadlineMs: Math.round(argv['deadline-seconds'] * 1000),
    });
    if (argv.watch) await follow(argv, rollout.id);
    else print(argv, rollout, rolloutText);
  },
};

const show: CommandModule<Globals, OneArgs> = {
  command: 'show <id>',
  describe: 'Show a rollout and each device in it',
  builder: (args) => idArgument(args).example('flotilla rollout show r-bc436d24-846a', 'also after it has ended'),
  async handler(argv) {
    print(argv, await (await connect(argv)).rollout(argv.id), rolloutText);
  },
};

const watch: CommandModule<Globals, OneArgs> = {
  command: 'watch <id>',
  describe: 'Follow a rollout until it has ended; exit code 4 if it stopped',
  builder: (args) => idArgument(args).example('flotilla rollout watch r-bc436d24-846a', 'exit code 4 if it stops'),
  handler: (argv) => follow(argv, argv.id),
};

const why: CommandModule<Globals, OneArgs> = {
  command: 'why <id>',
  describe: 'Say for each device that is not done why, and since when',
  builder: (args) => idArgument(args).example('flotilla rollout why r-bc436d24-846a', 'one sentence a device'),
  async handler(argv) {
    const rollout = await (await connect(argv)).rollout(argv.id);
    const devices = rollout.devices.filter(({ status }) => status !== 'done');
    const { id, phase, pausedAtMs, reason } = rollout;
    print(argv, { id, phase, pausedAtMs, reason, devices }, (r) =>
      [r.reason ?? `rollout ${r.id}: ${phaseText(r)}`, ...r.devices.map(sentenceOf)].join('\n'),
    );
  },
};

const pause: CommandModule<Globals, OneArgs> = {
  command: 'pause <id>',
  describe: 'Hold a rollout up: nobody new is told, no deadline runs; devices under way go on',
  builder: (args) => idArgument(args).example('flotilla rollout pause r-bc436d24-846a', 'until rollout resume'),
  async handler(argv) {
    print(argv, await (await connect(argv)).pause(argv.id), rolloutText);
  },
};

const resume: CommandModule<Globals, OneArgs> = {
  command: 'resume <id>',
  describe: 'Let a paused rollout go on, without the devices that have failed by now',
  builder: (args) =>
    idArgument(args).example('flotilla rollout resume r-bc436d24-846a', 'says: I have seen the failures'),
  async handler(argv) {
    print(argv, await (await connect(argv)).resume(argv.id), rolloutText);
  },
};

const abort: CommandModule<Globals, OneArgs> = {
  command: 'abort <id>',
  describe: 'End a rollout; devices under way go back to what they had',
  builder: (args) =>
    idArgument(args).example('flotilla rollout abort r-bc436d24-846a', 'committed devices keep what they have'),
  async handler(argv) {
    print(argv, await (await connect(argv)).abort(argv.id), rolloutText);
  },
};

const ls: CommandModule<Globals, Args> = {
  command: 'ls',
  describe: 'List rollouts, newest first',
  builder: (args) => withConnection(args).example('flotilla rollout ls', 'with their ids'),
  async handler(argv) {
    const client = await connect(argv);
    print(argv, { rollouts: await client.rollouts() }, ({ rollouts }) =>
      table(
        ['rollout', 'release', 'phase', 'done', 'created', 'reason'],
        rollouts.map((r) => [
          r.id,
          `${r.release.name}@${r.release.version}`,
          phaseText(r),
          `${r.counts.done}/${r.devices.length}`,
          new Date(r.createdAtMs).toISOString(),
          r.reason ?? '',
        ]),
      ),
    );
  },
};

export const rollout: CommandModule<Globals, Globals> = {
  command: 'rollout',
  describe: 'Releases on their way to devices',
  builder: (args) =>
    args
      .command(create)
      .command(show)
      .command(watch)
      .command(why)
      .command(pause)
      .command(resume)
      .command(abort)
      .command(ls)
      .demandCommand(1, 1, 'which: create, show, watch, why, pause, resume, abort or ls?')
      .example('flotilla rollout create labels@1.4.0 --to all --watch', 'canary first, then the rest'),
  handler() {},
};

/** Prints every change on stderr and the end on stdout. */
async function follow(argv: Args, id: string): Promise<void> {
  const client = await connect(argv);
  const signal = untilInterrupted();
  const said = new Map<string, string>();
  let last: RolloutView | undefined;
  for await (const view of client.watch(id, { signal })) {
    if (view.pausedAtMs !== (last?.pausedAtMs ?? null)) say(argv, `rollout ${view.id}: ${phaseText(view)}`);
    last = view;
    for (const device of view.devices) {
      const line = progressLine(device);
      if (said.get(device.device) !== line) say(argv, line);
      said.set(device.device, line);
    }
  }
  signal.throwIfAborted();
  if (last === undefined) return;
  print(argv, last, rolloutText);
  if (last.phase !== 'done') process.exitCode = EXIT.verdictNo;
}

/** One line on a device in a rollout: `pi-attic canary downloading 43.0 %`. */
export function progressLine({
  device,
  role,
  status,
  state,
  bytesDone,
  bytesTotal,
  detail,
}: RolloutDeviceView): string {
  const share = state === 'downloading' && bytesTotal > 0 ? ` ${percent(bytesDone / bytesTotal)}` : '';
  const shown = status === 'offered' ? (state ?? 'offered') : status;
  return `${device} ${role} ${shown}${share}${detail === '' ? '' : `: ${detail}`}`;
}

function rolloutText(r: RolloutView): string {
  const head = `rollout ${r.id} of ${r.release.name}@${r.release.version} to ${r.to}: ${phaseText(r)}${r.reason === null ? '' : `; ${r.reason}`}`;
  const rows = r.devices.map((d) => [d.device, d.board, d.role, d.status, d.state ?? '–', d.sentence ?? '']);
  return `${head}\n${table(['device', 'board', 'role', 'status', 'state', 'why'], rows)}`;
}

function phaseText({ phase, pausedAtMs }: Pick<RolloutView, 'phase' | 'pausedAtMs'>): string {
  return pausedAtMs === null ? phase : `${phase}, paused since ${new Date(pausedAtMs).toISOString()}`;
}

function sentenceOf(d: RolloutDeviceView): string {
  const seen = d.acknowledged ? ' (acknowledged)' : '';
  return `${d.device} ${d.sentence ?? d.status}${seen}, since ${new Date(d.sinceMs).toISOString()}`;
}

function idArgument<T>(args: Argv<T>) {
  return withConnection(args).positional('id', { type: 'string', demandOption: true, describe: 'See rollout ls' });
}
