/** Options that every command has. */
export interface Globals {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/**
 * The one thing a command reports: with `--json` exactly one JSON object on stdout, else text for people.
 * bigint becomes a number (all of ours are counts and sizes under 2⁵³), typed arrays become arrays.
 */
export function print<T>(globals: Globals, value: T, toText: (value: T) => string): void {
  if (globals.json) process.stdout.write(`${JSON.stringify(value, plain)}\n`);
  else if (!globals.quiet) process.stdout.write(`${toText(value).trimEnd()}\n`);
}

/** A line of progress or advice for people: stderr, not with `--quiet`. */
export function say(globals: Globals, line: string): void {
  if (!globals.quiet) process.stderr.write(`${line}\n`);
}

function plain(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number(value);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) return Array.from(value as Uint8Array);
  return value;
}
