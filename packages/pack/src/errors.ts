/** Codes travel in reports and `--json`: never renamed. */
export type PackErrorCode = 'pack/not-a-pack';

/** A pack that cannot be opened, trusted or written. */
export class PackError extends Error {
  override readonly name = 'PackError';
  readonly code: PackErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: PackErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
