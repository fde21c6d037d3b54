/** Codes travel in answers and `--json`: never renamed. */
export type ControllerErrorCode =
  /** doc: The request's body, path or query is not what the endpoint takes. Mend what the message names. */
  | 'controller/request'
  /** doc: No bearer token, or one this controller does not know. Send the token from `admin.token` in its data folder. */
  | 'controller/unauthorized'
  /** doc: The token is known, but its role does not allow this. Use an admin token. */
  | 'controller/forbidden'
  /** doc: No such device, pack, release, rollout or path. List what there is first. */
  | 'controller/not-found'
  /** doc: The request's body did not arrive in time. Send it faster, or check the network between. */
  | 'controller/timeout'
  /** doc: Something of that name is there already, with other content. Choose another name or version. */
  | 'controller/conflict'
  /** doc: The request's body is over the endpoint's limit. Send less. */
  | 'controller/too-large'
  /** doc: The uploaded pack did not verify: not a pack, damaged, or not signed by a trusted key. Sign it with a key that the controller trusts. */
  | 'controller/pack-refused'
  /** doc: The controller trusts no pack key yet, so devices would refuse whatever it sends. Put a `.pub` file into `trusted` in its data folder, or name one at the start. */
  | 'controller/no-trusted-keys'
  /** doc: The selection expression does not parse. Write `all`, or `board = 'x'`, `name`, `tag`, `fleet`, `device` joined by `and`, `or`, `not`. */
  | 'controller/selection'
  /** doc: The selection matches no device. Look at `flotilla device ls`. */
  | 'controller/no-devices'
  /** doc: Another rollout of the same model name is still running. Wait for it, or abort it. */
  | 'controller/rollout-active'
  /** doc: The rollout has ended, so it can be neither paused nor resumed. Create another one. */
  | 'controller/rollout-ended'
  /** doc: The device is not connected, so it cannot be called. Wait until it is online. */
  | 'controller/device-offline'
  /** doc: The device took the call and did not answer in time. Look at the device's log. */
  | 'controller/device-silent'
  /** doc: The device answered a call with an error. The message holds the device's own code. */
  | 'controller/device-error'
  /** doc: Too much is under way. Try again in a few seconds. */
  | 'controller/overloaded'
  /** doc: The address to listen on is taken. Stop what holds it, or choose another port (0: any free one). */
  | 'controller/port-in-use'
  /** doc: The address to listen on cannot be used (not this machine's, or no permission). Choose another. */
  | 'controller/listen'
  /** doc: Another controller runs on this data folder, or on this PostgreSQL database. Stop it, or give this one its own. */
  | 'controller/locked'
  /** doc: The data folder cannot be written. Check the disk and the permissions. */
  | 'controller/data-dir'
  /** doc: The controller's signing key, or a trusted pack key, cannot be read as Ed25519. Restore the file from a backup. */
  | 'controller/key'
  /** doc: The database cannot be opened, or answers with an error. Check the URL, that PostgreSQL runs, or the disk. */
  | 'controller/database'
  /** doc: The external MQTT broker cannot be reached or refuses the controller. Check the URL, user and password. */
  | 'controller/broker'
  /** doc: The controller cannot be reached over HTTP. Check its address, and that it runs. */
  | 'controller/unreachable'
  /** doc: A fault of the controller itself; its log holds more. Report it. */
  | 'controller/internal';

/** A request or state that the controller cannot serve. */
export class ControllerError extends Error {
  override readonly name = 'ControllerError';
  readonly code: ControllerErrorCode;
  /** File, address, field or id. */
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
