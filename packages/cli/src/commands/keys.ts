import { PackError, type PublicKey, readPrivateKey, readPublicKey, rotateKey, writeKeyPair } from '@flotilla/pack';
import type { CommandModule } from 'yargs';
import { type Globals, print } from '../output.ts';
import { table } from '../text.ts';

const init: CommandModule<Globals, Globals & { dir: string }> = {
  command: 'init [dir]',
  describe: 'Make a key pair to sign packs and releases with',
  builder: (args) =>
    args
      .positional('dir', { type: 'string', default: '.', describe: 'Folder for flotilla.key and flotilla.pub' })
      .example('flotilla keys init keys', 'keep flotilla.key secret; devices get flotilla.pub'),
  async handler(argv) {
    print(argv, await writeKeyPair(argv.dir), ({ privateFile, publicFile, keyId }) =>
      table(
        ['key', keyId],
        [
          ['private', `${privateFile} (keep it secret; there is no other copy)`],
          ['public', publicFile],
        ],
      ),
    );
  },
};

const rotate: CommandModule<Globals, Globals & { dir: string }> = {
  command: 'rotate [dir]',
  describe: 'Put a new key pair in the place of one; the old key says that it may be trusted',
  builder: (args) =>
    args
      .positional('dir', { type: 'string', default: '.', describe: 'Folder with flotilla.key and flotilla.pub' })
      .example('flotilla keys rotate controller-data/keys', 'the controller’s own key: start it again, that is all')
      .example('flotilla keys rotate keys', 'a key that signs packs: copy .pub and .succession into `trusted`'),
  async handler(argv) {
    print(argv, await rotateKey(argv.dir), (made) =>
      table(
        ['key', made.keyId],
        [
          ['replaces', made.replaces],
          ['private', `${made.privateFile} (keep it secret; there is no other copy)`],
          ['public', made.publicFile],
          ['statement', `${made.successionFile} (by the old key; devices need it, it is not secret)`],
          ['old pair', made.retiredDir],
        ],
      ),
    );
  },
};

const show: CommandModule<Globals, Globals & { file: string }> = {
  command: 'show <file>',
  describe: 'Show the id and public half of a key',
  builder: (args) =>
    args
      .positional('file', { type: 'string', demandOption: true, describe: 'flotilla.key or flotilla.pub' })
      .example('flotilla keys show keys/flotilla.pub', 'the id that packs are signed with'),
  async handler(argv) {
    print(argv, await describe(argv.file), ({ keyId, kind, publicKey }) => `${kind} key ${keyId}\n${publicKey}`);
  },
};

export const keys: CommandModule<Globals, Globals> = {
  command: 'keys',
  describe: 'Keys that sign packs and releases',
  builder: (args) =>
    args
      .command(init)
      .command(rotate)
      .command(show)
      .demandCommand(1, 1, 'which: init, rotate or show?')
      .example('flotilla keys init keys', 'a new pair'),
  handler() {},
};

interface KeyReport {
  readonly keyId: string;
  readonly kind: 'public' | 'private';
  /** PEM. */
  readonly publicKey: string;
}

/** Private keys are told from public ones by reading them; what is neither is reported as no public key. */
async function describe(file: string): Promise<KeyReport> {
  try {
    return report('public', await readPublicKey(file));
  } catch (error) {
    if (!(error instanceof PackError) || error.code !== 'pack/key-invalid') throw error;
    const secret = await readPrivateKey(file).catch((reason: unknown) => {
      throw reason instanceof PackError && reason.code === 'pack/key-invalid' ? error : reason;
    });
    return report('private', secret.publicKey);
  }
}

function report(kind: 'public' | 'private', key: PublicKey): KeyReport {
  return { keyId: key.keyId, kind, publicKey: key.pem };
}
