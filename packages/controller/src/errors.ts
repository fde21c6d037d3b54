/** Codes travel in reports and `--json`: never renamed. */
export type ControllerErrorCode = 'controller/request';

/** A request or state that the controller cannot serve. */
export class ControllerError extends Error {
  override readonly name = 'ControllerError';
  readonly code: ControllerErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: ControllerErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
