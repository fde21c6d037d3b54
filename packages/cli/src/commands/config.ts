import type { CommandModule } from 'yargs';
import { type Globals, print } from '../output.ts';
import { loadSettings, SETTINGS, type SettingName } from '../settings.ts';
import { table } from '../text.ts';

type Args = Globals & { readonly [N in SettingName]?: string | undefined };

interface ConfigReport {
  readonly settings: readonly {
    readonly name: SettingName;
    readonly value: string | null;
    readonly from: string | null;
  }[];
}

const NAMES = Object.keys(SETTINGS) as SettingName[];

export const config: CommandModule<Globals, Args> = {
  command: 'config',
  describe: 'Show the settings in force and where each comes from',
  builder: (args) => {
    for (const name of NAMES)
      args.option(name, { type: 'string', describe: `As any command takes it: ${SETTINGS[name]}` });
    return args
      .example('flotilla config', 'flags come first, then FLOTILLA_* variables, then the nearest flotilla.yaml')
      .example('flotilla config --board host', 'what would win beside this flag');
  },
  handler(argv) {
    print(argv, configReport(argv), ({ settings }) =>
      table(
        ['setting', 'value', 'from', 'meaning'],
        settings.map(({ name, value, from }) => [name, value ?? '–', from ?? '–', SETTINGS[name]]),
      ),
    );
  },
};

function configReport(flags: Args): ConfigReport {
  const settings = loadSettings(process.env, process.cwd(), flags);
  return {
    settings: NAMES.map((name) => {
      const found = settings.get(name);
      // A token is a secret: show that it is set, not what it is.
      const value = found && name === 'token' ? '(set)' : found?.value;
      return { name, value: value ?? null, from: found?.from ?? null };
    }),
  };
}
