/** Codes travel in reports and `--json`: never renamed. */
export type LoweringErrorCode =
  /** doc: a DequantizeLinear's weights, scales and block length do not fit each other; the pack was not made by this compiler, or is damaged */
  | 'lowering/shape'
  /** doc: an adapter names a layer that the graph does not have, or that is no product or embedding; it belongs to another model */
  | 'lowering/branch'
  /** doc: a rebuild layer names a weight that the base does not have, or has in a form that is not merged into; it belongs to another model */
  | 'lowering/rebuild';

/** A graph that cannot be specialised. */
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
