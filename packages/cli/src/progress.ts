import type { Globals } from './output.ts';

/** How far a long step is. `total` undefined: unknown. */
export interface Progress {
  readonly step: string;
  readonly done: number;
  readonly total: number | undefined;
}

const WIDTH = 24;
const FIRST_SHOWN_MS = 1000;

/**
 * A progress bar on stderr for what takes longer than a second; nothing where stderr is no terminal or `--quiet` asks for silence.
 * Call `update` as often as you like, `end` once.
 */
export function progressBar(globals: Globals, now: () => number = Date.now) {
  const shown = process.stderr.isTTY === true && !globals.quiet;
  const startedMs = now();
  let drawn = false;
  return {
    update({ step, done, total }: Progress): void {
      const elapsedMs = now() - startedMs;
      if (!shown || elapsedMs < FIRST_SHOWN_MS) return;
      drawn = true;
      process.stderr.write(`\r\x1b[K${bar(step, done, total)}`);
    },
    end(): void {
      if (drawn) process.stderr.write('\r\x1b[K');
    },
  };
}

function bar(step: string, done: number, total: number | undefined): string {
  if (total === undefined || total <= 0) return `${step} ${done}`;
  const share = Math.min(1, done / total);
  const full = Math.round(share * WIDTH);
  return `${'█'.repeat(full)}${'░'.repeat(WIDTH - full)} ${Math.round(share * 100)} % ${step}`;
}
