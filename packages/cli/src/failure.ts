import { CliError } from './errors.ts';

/** Exit codes of the contract. */
export const EXIT = {
  done: 0,
  fault: 1,
  usage: 2,
  badInput: 3,
  verdictNo: 4,
  surroundings: 5,
  interrupted: 130,
} as const;

/** What a failure tells people and scripts. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly where: string | null;
  readonly hint: string | null;
}

/** Typed errors of every package look like this; they share no class, because the packages share no code. */
interface TypedError extends Error {
  readonly code: string;
  readonly where?: string | undefined;
  readonly hint?: string | undefined;
}

/** Reasons (the part of a code behind the slash) that lie in the surroundings, not in the input. */
const SURROUNDINGS = new Set([
  'surroundings',
  'port-in-use',
  'unreachable',
  'broker',
  'broker-refused',
  'listen',
  'data-dir',
  'device-offline',
  'device-silent',
  'overloaded',
  'locked',
  'identity-in-use',
  'storage-full',
  'storage',
  'disk-full',
  'no-space',
  'io',
  'permission',
  'timeout',
  'database',
]);

/** Codes that speak of what the command line says and of nothing else. */
const USAGE = new Set(['cli/usage', 'runtime/options', 'controller/request', 'controller/selection']);

const SYSTEM_FAULTS = new Set([
  'EACCES',
  'EPERM',
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  'EROFS',
  'EIO',
  'EMFILE',
  'EADDRINUSE',
  'EADDRNOTAVAIL',
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'ETIMEDOUT',
  'EPIPE',
]);
const FILE_FAULTS = new Set(['ENOENT', 'EISDIR', 'ENOTDIR', 'ELOOP', 'ENAMETOOLONG']);

/** An error as the contract states it. Foreign errors become ours: the system's by their kind, the rest as our fault. */
export function describeError(error: unknown): Failure {
  const typed = typedError(error);
  return {
    code: typed.code,
    message: oneLine(typed.message),
    where: typed.where ?? null,
    hint: typed.hint ?? null,
  };
}

/** The exit code that belongs to a failure's code, or to what the system said in `error` or what caused it. */
export function exitCodeOf({ code, message }: Failure, error?: unknown): number {
  const reason = code.slice(code.indexOf('/') + 1);
  if (code === 'cli/fault' || code === 'controller/internal') return EXIT.fault;
  // What the library says of an option begins with it, whatever its code is: `--block belongs to int4 weights`.
  if (USAGE.has(code) || message.startsWith('--')) return EXIT.usage;
  return SURROUNDINGS.has(reason) || isSystemFault(error) ? EXIT.surroundings : EXIT.badInput;
}

/** `error package/reason: what, where; how to mend`. */
export function failureLine(failure: Failure): string {
  // Most messages name the place themselves, all at once or part by part.
  const isNamed = (failure.where ?? '').split(', ').every((part) => failure.message.includes(part));
  const where = isNamed ? '' : `, ${failure.where}`;
  const hint = failure.hint === null ? '' : `; ${failure.hint}`;
  return `error ${failure.code}: ${failure.message}${where}${hint}`;
}

function typedError(error: unknown): TypedError {
  if (!(error instanceof Error)) return new CliError('cli/fault', String(error)) as TypedError;
  if (isTyped(error)) return error;
  const cause = error.cause instanceof Error && systemCode(error) === undefined ? error.cause : error;
  const code = systemCode(cause);
  const path = 'path' in cause && typeof cause.path === 'string' ? cause.path : undefined;
  if (code !== undefined && FILE_FAULTS.has(code))
    return new CliError('cli/file', `${code}: no such file, or not of the expected kind`, {
      where: path,
      cause: error,
      hint: 'check the path',
    }) as TypedError;
  if (code !== undefined && SYSTEM_FAULTS.has(code))
    return new CliError('cli/surroundings', cause.message, { where: path, cause: error }) as TypedError;
  return new CliError('cli/fault', error.message, {
    cause: error,
    hint: 'run again with --verbose and report it',
  }) as TypedError;
}

function isSystemFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return SYSTEM_FAULTS.has(systemCode(error) ?? '') || isSystemFault(error.cause);
}

function isTyped(error: Error): error is TypedError {
  return 'code' in error && typeof error.code === 'string' && /^[a-z]+\/[a-z0-9-]+$/.test(error.code);
}

function systemCode(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').trim();
}
