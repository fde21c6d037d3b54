import { spawn } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const child = fileURLToPath(new URL('run-onnx-models.mjs', import.meta.url));

/** names: everything written anew, nothing changed. opset: raised to 21. */
export type Rewrite = 'names' | 'opset';

export interface Verdict {
  readonly folder: string;
  /** 'equal', 'unchanged', 'refused', 'WRONG', or why it says nothing. */
  readonly outcome: string;
  readonly why?: string;
}

export const debianData = '/usr/share/libonnx-testdata/data';

export async function foldersIn(root: string): Promise<string[]> {
  const names = await readdir(root, { recursive: true }).catch(() => []);
  return names.filter((name) => name.endsWith('model.onnx')).map((name) => join(root, dirname(name)));
}

/** Some valid models abort the process that runs them: what is left then goes to a new one. */
export async function judgeModels(folders: readonly string[], rewrite: Rewrite): Promise<Verdict[]> {
  const halves = [folders.filter((_, i) => i % 2 === 0), folders.filter((_, i) => i % 2 === 1)];
  return (await Promise.all(halves.map((half) => judgeInTurn(half, rewrite)))).flat();
}

async function judgeInTurn(folders: readonly string[], rewrite: Rewrite): Promise<Verdict[]> {
  const verdicts: Verdict[] = [];
  const left = [...folders];
  while (left.length > 0) {
    const crashed = await runChild(left.slice(0, 1000), rewrite, (verdict) => {
      verdicts.push(verdict);
      left.shift();
    });
    if (crashed !== undefined) verdicts.push({ folder: crashed, outcome: 'aborts ONNX Runtime' });
    if (crashed !== undefined) left.shift();
  }
  return verdicts;
}

/** Resolves to the folder that was being judged when the process died. */
async function runChild(
  folders: readonly string[],
  rewrite: Rewrite,
  take: (verdict: Verdict) => void,
): Promise<string | undefined> {
  const running = spawn(process.execPath, [child, rewrite], { stdio: ['pipe', 'pipe', 'ignore'] });
  running.stdin.on('error', () => {}).end(folders.join('\n'));
  const ended = new Promise((resolve) => running.once('exit', resolve));
  let current: string | undefined;
  for await (const line of createInterface({ input: running.stdout })) {
    const said = JSON.parse(line) as Verdict | { started: string };
    if ('started' in said) current = said.started;
    else {
      current = undefined;
      take(said);
    }
  }
  await ended;
  return current;
}
