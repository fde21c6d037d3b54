/** Codes travel in reports and `--json`: never renamed. */
export type ProtocolErrorCode =
  /** Bytes that are no message of this protocol. Count and ignore the message; a peer that keeps sending them is faulty. */
  | 'protocol/decode'
  /** A field outside its documented range (negative, not finite, beyond 2^53 − 1, a text too long, an unknown enum value). Ignore the message. */
  | 'protocol/value'
  /** A payload above its message's limit. Ignore the message. */
  | 'protocol/too-large'
  /** A topic that is not of this protocol, or a name outside [a-z0-9][a-z0-9._-]{0,63}. Rename the device, fleet or model. */
  | 'protocol/topic'
  /** A peer that speaks another protocol version. Update the older of the two. */
  | 'protocol/version'
  /** A desired release whose signature is not the controller's. Provision the device again if the controller's key was replaced. */
  | 'protocol/signature';

/** A message or topic that is not of this protocol. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
  readonly code: ProtocolErrorCode;
  /** Field, topic or message. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: ProtocolErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
