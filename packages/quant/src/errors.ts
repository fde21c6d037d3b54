/** Codes travel in reports and `--json`: never renamed. */
export type QuantErrorCode = 'quant/shape';

/** Numbers that a kernel cannot take. */
export class QuantError extends Error {
  override readonly name = 'QuantError';
  readonly code: QuantErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: QuantErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
