import type { CommandModule } from 'yargs';
import { type Globals, print } from '../output.ts';
import { loadSettings, SETTINGS, type SettingName } from '../settings.ts';
import { table } from '../text.ts';

interface ConfigReport {
  readonly settings: readonly {
    readonly name: SettingName;
    readonly value: string | null;
    readonly from: string | null;
  }[];
}

export const config: CommandModule<Globals, Globals> = {
  command: 'config',
  describe: 'Show the settings in force and where each comes from',
  builder: (args) =>
    args.example('flotilla config', 'flags come first, then FLOTILLA_* variables, then the nearest flotilla.yaml'),
  handler(argv) {
    print(argv, configReport(), ({ settings }) =>
      table(
        ['setting', 'value', 'from', 'meaning'],
        settings.map(({ name, value, from }) => [name, value ?? '–', from ?? '–', SETTINGS[name]]),
      ),
    );
  },
};

function configReport(): ConfigReport {
  const settings = loadSettings(process.env, process.cwd());
  return {
    settings: (Object.keys(SETTINGS) as SettingName[]).map((name) => {
      const found = settings.get(name);
      // A token is a secret: show that it is set, not what it is.
      const value = found && name === 'token' ? '(set)' : found?.value;
      return { name, value: value ?? null, from: found?.from ?? null };
    }),
  };
}
