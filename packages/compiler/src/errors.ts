/** Codes travel in reports and `--json`: never renamed. */
export type CompilerErrorCode = 'compiler/recipe';

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
