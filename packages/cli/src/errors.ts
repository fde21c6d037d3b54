/** Codes travel in reports and `--json`: never renamed. */
export type CliErrorCode = 'cli/usage';

/** A command line that cannot be carried out. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly code: CliErrorCode;
  /** File, node or offset. */
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
