/** Codes travel in reports and `--json`: never renamed. */
export type LoweringErrorCode = 'lowering/unsupported';

/** A graph that cannot be lowered for a board. */
export class LoweringError extends Error {
  override readonly name = 'LoweringError';
  readonly code: LoweringErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: LoweringErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
