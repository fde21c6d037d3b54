import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { reasonOf } from '../zoo/kept.ts';
import { output } from '../zoo/steps.ts';

/** Tools with the versions that are compared; the runtime is the one that the project ships. */
export const PINS: ReadonlyMap<string, readonly string[]> = new Map([
  ['onnxruntime', ['onnxruntime==1.30.0', 'onnx==1.23.2', 'sympy']],
  ['olive', ['olive-ai==0.13.0']],
  ['aimet', ['aimet-onnx==2.42.0']],
]);

/** torch, which two of them need, is 3 GB with its libraries. */
const INSTALL_MINUTES = 40;

export interface PeerEnvironment {
  readonly python: string;
  /** Tools that cannot be had here: why, in words. */
  readonly missing: ReadonlyMap<string, string>;
}

/** A Python environment of its own, outside of the repository, made once; what cannot be had is said. */
export async function peerEnvironment(dir: string, say: (line: string) => void): Promise<PeerEnvironment> {
  const python = join(dir, 'bin', 'python');
  try {
    await output(python, ['--version']).catch(async () => {
      await mkdir(dir, { recursive: true });
      await output('python3', ['-m', 'venv', dir]);
    });
  } catch (error) {
    const reason = `skipped: no Python environment: ${reasonOf(error)}`;
    return { python, missing: new Map([...PINS.keys()].map((tool) => [tool, reason])) };
  }
  const missing = new Map<string, string>();
  for (const [tool, pins] of PINS) {
    const marker = join(dir, `${tool}.installed`);
    const known = await readFile(marker, 'utf8').catch(() => '');
    try {
      if (known !== pins.join(' ')) {
        say(`pip install ${pins.join(' ')}`);
        // All pins so far together: a later tool must not change the runtime.
        const together = [...PINS].filter(([name]) => !missing.has(name)).flatMap(([, all]) => all);
        const upTo = together.slice(0, together.indexOf(pins.at(-1) ?? '') + 1);
        const words = [
          '-m',
          'pip',
          'install',
          '--quiet',
          '--no-cache-dir',
          '--no-compile',
          '--disable-pip-version-check',
          ...upTo,
        ];
        await output(python, words, { minutes: INSTALL_MINUTES });
        await writeFile(marker, pins.join(' '));
      }
    } catch (error) {
      missing.set(tool, `skipped: ${pins[0]} could not be installed: ${reasonOf(error)}`);
    }
  }
  return { python, missing };
}
