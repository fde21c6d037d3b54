import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { output, reasonOf } from '../zoo/steps.ts';

/** Tools with the versions that are compared; the runtime is the one that the project ships. */
const PINS: ReadonlyMap<string, readonly string[]> = new Map([
  ['onnxruntime', ['onnxruntime==1.30.0', 'onnx==1.23.2', 'sympy']],
  ['olive', ['olive-ai==0.13.0']],
  ['aimet', ['aimet-onnx==2.42.0']],
]);

export interface PeerEnvironment {
  /** Its Python; null: there is none. */
  readonly python: string | null;
  readonly has: ReadonlySet<string>;
  /** In words, a line each. */
  readonly skipped: readonly string[];
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
    return { python: null, has: new Set(), skipped: [`peers: skipped: no Python environment: ${reasonOf(error)}`] };
  }
  const [has, skipped] = [new Set<string>(), new Array<string>()];
  for (const [tool, pins] of PINS) {
    const marker = join(dir, `${tool}.installed`);
    const known = await readFile(marker, 'utf8').catch(() => '');
    try {
      if (known !== pins.join(' ')) {
        say(`pip install ${pins.join(' ')}`);
        // All pins so far together: a later tool must not change the runtime.
        const together = [...PINS].filter(([name]) => has.has(name) || name === tool).flatMap(([, all]) => all);
        await output(python, ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', ...together]);
        await writeFile(marker, pins.join(' '));
      }
      has.add(tool);
    } catch (error) {
      skipped.push(`${tool}: skipped: ${pins[0]} could not be installed: ${reasonOf(error)}`);
    }
  }
  return { python, has, skipped };
}
