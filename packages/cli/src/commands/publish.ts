import type { CommandModule } from 'yargs';
import { type Connection, connect, withConnection } from '../client.ts';
import { type Globals, print } from '../output.ts';

interface Args extends Globals, Connection {
  readonly pack: string;
  readonly name: string;
  readonly version: string;
}

export const publish: CommandModule<Globals, Args> = {
  command: 'publish <pack>',
  describe: 'Upload a pack and make it a release',
  builder: (args) =>
    withConnection(args)
      .positional('pack', {
        type: 'string',
        demandOption: true,
        describe: 'Signed by a key that the controller trusts',
      })
      .option('name', {
        type: 'string',
        demandOption: true,
        describe: 'Model name; a device keeps one release of each',
      })
      .option('version', { type: 'string', demandOption: true, describe: 'Version of the release' })
      .example('flotilla publish labels.pack --name labels --version 1.4.0', 'labels@1.4.0 can be rolled out'),
  async handler(argv) {
    const client = await connect(argv);
    print(
      argv,
      await client.publish(argv.pack, argv.name, argv.version),
      (r) => `${r.name}@${r.version} is ${r.digest}`,
    );
  },
};
