import {
  listPack,
  type PackListing,
  type PublicKey,
  pullPack,
  pushPack,
  readPrivateKey,
  readPublicKey,
  signPack,
  unpackPack,
  type VerifyReport,
  verifyPack,
} from '@flotilla/pack';
import type { CommandModule } from 'yargs';
import { untilInterrupted } from '../interrupt.ts';
import { trustOption } from '../options.ts';
import { progressBar } from '../progress.ts';
import { type RegistryAccount, readAccount, withAccount } from '../registry-account.ts';
import { type Globals, print } from '../output.ts';
import { bytes, table } from '../text.ts';

interface Trusting extends Globals {
  readonly pack: string;
  readonly trust: string | undefined;
}

const ls: CommandModule<Globals, Trusting> = {
  command: 'ls <pack>',
  describe: 'List what is in a pack',
  builder: (args) =>
    args
      .positional('pack', { type: 'string', demandOption: true, describe: '.pack file or folder' })
      .option('trust', trustOption())
      .example('flotilla pack ls labels.pack', 'its files, their roles and sizes'),
  async handler(argv) {
    print(argv, await listPack(argv.pack, await opening(argv.trust)), listingText);
  },
};

const verify: CommandModule<Globals, Trusting> = {
  command: 'verify <pack>',
  describe: 'Check every digest and the signature of a pack',
  builder: (args) =>
    args
      .positional('pack', { type: 'string', demandOption: true, describe: '.pack file or folder' })
      .option('trust', { ...trustOption(), alias: 'key' })
      .example('flotilla pack verify labels.pack --trust keys/flotilla.pub', 'whole, and signed with this key'),
  async handler(argv) {
    print(argv, await verifyPack(argv.pack, await opening(argv.trust)), verifyText);
  },
};

const unpack: CommandModule<Globals, Trusting & { output: string }> = {
  command: 'unpack <pack>',
  describe: 'Copy a pack’s files into a new folder',
  builder: (args) =>
    args
      .positional('pack', { type: 'string', demandOption: true, describe: '.pack file or folder' })
      .option('output', { type: 'string', alias: 'o', demandOption: true, describe: 'New or empty folder' })
      .option('trust', trustOption())
      .example('flotilla pack unpack labels.pack -o labels/', 'verified first'),
  async handler(argv) {
    const listing = await unpackPack(argv.pack, argv.output, await opening(argv.trust));
    print(
      argv,
      { ...listing, output: argv.output },
      ({ output }) => `${listing.config.files.length} files in ${output}`,
    );
  },
};

const sign: CommandModule<Globals, Globals & { pack: string; key: string; output: string | undefined }> = {
  command: 'sign <pack>',
  describe: 'Sign a pack; its name changes, an earlier signature goes',
  builder: (args) =>
    args
      .positional('pack', { type: 'string', demandOption: true, describe: '.pack file or folder' })
      .option('key', { type: 'string', demandOption: true, describe: 'Private key file, see keys init' })
      .option('output', { type: 'string', alias: 'o', describe: 'Where to write it; default: in place' })
      .example('flotilla pack sign labels.pack --key keys/flotilla.key', 'its digest is another afterwards'),
  async handler(argv) {
    const key = await readPrivateKey(argv.key);
    const signed = await signPack(argv.pack, key, { out: argv.output, signal: untilInterrupted() });
    print(argv, { path: argv.output ?? argv.pack, ...signed }, ({ path, digest, keyId }) =>
      table(
        ['signed', path],
        [
          ['digest', digest],
          ['key', keyId],
        ],
      ),
    );
  },
};

const push: CommandModule<Globals, Globals & RegistryAccount & { pack: string; reference: string }> = {
  command: 'push <pack> <reference>',
  describe: 'Copy a pack into an OCI registry',
  builder: (args) =>
    withAccount(
      args
        .positional('pack', { type: 'string', demandOption: true, describe: '.pack file or folder' })
        .positional('reference', { type: 'string', demandOption: true, describe: 'HOST[:PORT]/NAME[:TAG]' }),
    ).example(
      'flotilla pack push labels.pack registry.example.com/models/labels:1.0.0',
      'what it has is not sent again',
    ),
  async handler(argv) {
    const bar = progressBar(argv);
    const pushed = await pushPack(argv.pack, argv.reference, {
      credentials: await readAccount(argv),
      signal: untilInterrupted(),
      onProgress: (done, total) => bar.update({ step: 'push', done, total, unit: 'bytes' }),
    }).finally(() => bar.end());
    print(argv, pushed, (p) =>
      table(
        ['pushed', p.reference],
        [
          ['digest', p.digest],
          ['sent', `${bytes(p.uploadedBytes)} of ${bytes(p.bytes)}; the rest was there`],
        ],
      ),
    );
  },
};

interface PullArgs extends Globals, RegistryAccount {
  readonly reference: string;
  readonly output: string;
  readonly trust: string | undefined;
}

const pull: CommandModule<Globals, PullArgs> = {
  command: 'pull <reference>',
  describe: 'Copy a pack out of an OCI registry; every byte is verified',
  builder: (args) =>
    withAccount(
      args
        .positional('reference', { type: 'string', demandOption: true, describe: 'HOST[:PORT]/NAME[:TAG][@DIGEST]' })
        .option('output', { type: 'string', alias: 'o', demandOption: true, describe: 'NAME.pack, or a folder' })
        .option('trust', trustOption()),
    ).example(
      'flotilla pack pull registry.example.com/models/labels:1.0.0 -o labels.pack',
      'signed or not, see --trust',
    ),
  async handler(argv) {
    const bar = progressBar(argv);
    const pulled = await pullPack(argv.reference, argv.output, {
      ...(await opening(argv.trust)),
      credentials: await readAccount(argv),
      onProgress: (done, total) => bar.update({ step: 'pull', done, total, unit: 'bytes' }),
    }).finally(() => bar.end());
    print(argv, { ...pulled, signedBy: pulled.signedBy ?? null }, (p) =>
      table(
        ['pulled', p.path],
        [
          ['digest', p.digest],
          ['signed by', p.signedBy ?? 'nobody'],
          ['holds', `${bytes(p.bytes)}, every byte as its digest says`],
        ],
      ),
    );
  },
};

export const pack: CommandModule<Globals, Globals> = {
  command: 'pack',
  describe: 'What is in a pack, whether it is whole, who signed it',
  builder: (args) =>
    args
      .command(ls)
      .command(verify)
      .command(unpack)
      .command(sign)
      .command(push)
      .command(pull)
      .demandCommand(1, 1, 'which: ls, verify, unpack, sign, push or pull?')
      .example('flotilla pack ls labels.pack', 'its files, their roles and sizes'),
  handler() {},
};

async function opening(trust: string | undefined): Promise<{ trusted: PublicKey[] | undefined; signal: AbortSignal }> {
  return { trusted: trust === undefined ? undefined : [await readPublicKey(trust)], signal: untilInterrupted() };
}

function listingText({ digest, signedBy, config }: PackListing): string {
  const facts = [
    ['digest', digest],
    ['signed by', signedBy ?? 'nobody'],
    ['task', config.task],
    ['weights', config.weights],
    ['parameters', config.parameters.toLocaleString('en')],
    ['made from', bytes(config.sourceBytes)],
    ['golden vectors', config.golden === null ? 'none' : Object.keys(config.golden.tolerance).join(', ')],
    ...Object.entries(config.latencyBudgetUs).map(([board, us]) => [`budget ${board}`, `${us / 1000} ms`]),
    ...Object.entries(config.annotations),
  ];
  const files = config.files.map((file) => [file.path, file.role, bytes(file.bytes), file.digest.slice(7, 19)]);
  return `${table(['pack', config.name], facts)}\n\n${table(['file', 'role', 'size', 'sha256'], files)}`;
}

function verifyText(report: VerifyReport): string {
  const rows = [
    ['digest', report.digest],
    ['config', report.configDigest],
    ['signed by', report.signedBy ?? 'nobody'],
    ['trusted', report.trusted === null ? 'no key given to judge by' : 'yes'],
    ['holds', `${report.files} files, ${bytes(report.bytes)}, every byte as its digest says`],
  ];
  return table(['whole', report.path], rows);
}
