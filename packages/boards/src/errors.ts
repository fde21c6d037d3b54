/** Codes travel in reports and `--json`: never renamed. */
export type BoardErrorCode =
  /** doc: no board of that name is known; list them with `flotilla boards ls`, or give a path to a YAML file */
  | 'boards/unknown'
  /** doc: the board's file cannot be read; check the path and its permissions */
  | 'boards/unreadable'
  /** doc: the board's file breaks a rule (syntax, an unknown or missing key, a value of the wrong kind); mend the line that is named */
  | 'boards/invalid'
  /** doc: this machine's CPU is neither x64 nor arm64, for which ONNX Runtime has no Node binding; name another board */
  | 'boards/unsupported-cpu';

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
