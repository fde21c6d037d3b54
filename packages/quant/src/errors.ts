/** Codes travel in reports and `--json`: never renamed. */
export type QuantErrorCode =
  /** doc: array lengths, sizes or block lengths do not fit together; pass the sizes that the array really has */
  | 'quant/shape'
  /** doc: a weight or factor is NaN or infinite; mend the model, it would not run in float either */
  | 'quant/not-finite'
  /** doc: an interval that runs backwards or is not one; a fault of the caller */
  | 'quant/range'
  /** doc: a bias too large for int32 at the scale of its sums; raise the weight scale */
  | 'quant/bias-overflow'
  /** doc: nothing was observed, so no interval can be chosen; give calibration samples */
  | 'quant/empty';

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
