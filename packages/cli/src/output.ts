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
  if (globals.json) writeObject(JSON.stringify(value, plain));
  else if (!globals.quiet) process.stdout.write(`${toText(value).trimEnd()}\n`);
}

let hasWritten = false;

/**
 * A failure, with `--json`. One that comes when the object is out already (an agent that ran, a rollout that was
 * followed) is told by stderr and the exit code alone: a script reads one object.
 */
export function printFailure(failure: object): void {
  if (!hasWritten) writeObject(JSON.stringify({ error: failure }));
}

/** A new command line has its own object. */
export function beginOutput(): void {
  hasWritten = false;
}

function writeObject(text: string): void {
  hasWritten = true;
  process.stdout.write(`${text}\n`);
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
