/** Codes travel in reports and `--json`: never renamed. */
export type CompilerErrorCode =
  /** doc: a recipe names an unknown pass or option, or orders passes wrongly; follow the suggestion in the message */
  | 'compiler/recipe'
  /** doc: a clean-up pass changed what the model computes; a fault of ours: report it with the model */
  | 'compiler/rewrite-changed'
  /** doc: the calibration set is empty, of the wrong shape or type, or holds NaN; mend the sample that is named */
  | 'compiler/calibration'
  /** doc: a weight is NaN or infinite; mend the model */
  | 'compiler/weights'
  /** doc: the model's opset cannot be raised to what the recipe needs; export it anew at opset 13 or later */
  | 'compiler/opset'
  /** doc: the graph holds something that the pass cannot take; the message names the node */
  | 'compiler/graph';

/** A model, recipe or data set that cannot be compiled. */
export class CompilerError extends Error {
  override readonly name = 'CompilerError';
  readonly code: CompilerErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: CompilerErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
