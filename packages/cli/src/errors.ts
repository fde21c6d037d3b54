/** Codes travel in `--json`: never renamed. */
export type CliErrorCode =
  /** The command line does not parse: an unknown command or option, a missing value, or one that the option cannot have; see `--help`. */
  | 'cli/usage'
  /** `flotilla.yaml` or a `FLOTILLA_*` variable cannot be used; mend the named key. */
  | 'cli/config'
  /** A file that the command line names is missing or is not of the expected kind; check the path. */
  | 'cli/file'
  /** The surroundings refuse: permission, disk, port or network; mend what the message names. */
  | 'cli/surroundings'
  /** A fault of ours; run again with `--verbose` and report the stack. */
  | 'cli/fault';

/** A command line that cannot be carried out. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly code: CliErrorCode;
  /** File, option or key. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: CliErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
