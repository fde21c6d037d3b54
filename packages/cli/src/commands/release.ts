import type { CommandModule } from 'yargs';
import { type Connection, connect, withConnection } from '../client.ts';
import { CliError } from '../errors.ts';
import { type Globals, print } from '../output.ts';
import { table } from '../text.ts';

type Args = Globals & Connection;

const ls: CommandModule<Globals, Args> = {
  command: 'ls',
  describe: 'List releases',
  builder: (args) => withConnection(args).example('flotilla release ls', 'with digest and date'),
  async handler(argv) {
    const client = await connect(argv);
    print(argv, { releases: await client.releases() }, ({ releases }) =>
      table(
        ['release', 'published', 'digest'],
        releases.map((r) => [`${r.name}@${r.version}`, new Date(r.createdAtMs).toISOString(), r.digest]),
      ),
    );
  },
};

const show: CommandModule<Globals, Args & { readonly release: string }> = {
  command: 'show <release>',
  describe: 'Show one release, NAME@VERSION, and the devices that hold it',
  builder: (args) =>
    withConnection(args)
      .positional('release', { type: 'string', demandOption: true, describe: 'NAME@VERSION' })
      .example('flotilla release show labels@1.4.0', 'its digest, and who has it loaded'),
  async handler(argv) {
    const client = await connect(argv);
    const release = (await client.releases()).find((r) => `${r.name}@${r.version}` === argv.release);
    if (release === undefined)
      throw new CliError('cli/file', `no release ${argv.release}`, {
        where: argv.controller,
        hint: 'flotilla release ls lists them',
      });
    const holders = (await client.devices()).filter((d) => d.models.some((m) => m.loadedDigest === release.digest));
    print(
      argv,
      { ...release, devices: holders.map(({ id }) => id) },
      (r) => `${argv.release} is ${r.digest}\nloaded on: ${r.devices.join(', ') || 'no device'}`,
    );
  },
};

export const release: CommandModule<Globals, Globals> = {
  command: 'release',
  describe: 'Published packs',
  builder: (args) =>
    args
      .command(ls)
      .command(show)
      .demandCommand(1, 1, 'which: ls or show?')
      .example('flotilla release ls', 'what can be rolled out'),
  handler() {},
};
