/** Codes travel in reports and `--json`: never renamed. */
export type QuantErrorCode =
  /** doc: array lengths, sizes or block lengths do not fit together; pass the sizes that the array really has */
  | 'quant/shape'
  /** doc: a weight or factor is NaN or infinite; mend the model, it would not run in float either */
  | 'quant/not-finite';

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
