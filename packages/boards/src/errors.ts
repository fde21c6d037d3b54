/** Codes travel in reports and `--json`: never renamed. */
export type BoardErrorCode = 'boards/unknown';

/** A board that cannot be read. */
export class BoardError extends Error {
  override readonly name = 'BoardError';
  readonly code: BoardErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: BoardErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
