/** Codes travel in reports and `--json`: never renamed. */
export type AgentErrorCode =
  /** The identity folder lacks a good identity.json; provision the device again with `flotilla agent provision`. */
  | 'agent/identity'
  /** Others than its owner may read identity.json, which holds the device's secret; `chmod 600` it. */
  | 'agent/identity-mode'
  /** There is an identity in this folder already, and identities are never overwritten; choose another folder. */
  | 'agent/identity-exists'
  /** Another agent runs with this identity or on this data folder; stop one of the two. */
  | 'agent/identity-in-use'
  /** The controller would not provision the device: wrong token, name taken, or a bad name; the message has its answer. */
  | 'agent/provision'
  /** The controller cannot be reached; check its address and the network. */
  | 'agent/unreachable'
  /** The broker refused the device's credentials; provision it again if the controller forgot it. */
  | 'agent/broker-refused'
  /** The data folder was written by a newer agent; run that version, or empty the folder to begin anew. */
  | 'agent/state-newer'
  /** The data folder cannot be read or written; see the system's reason. */
  | 'agent/storage'
  /** No model of this name is loaded; see `flotilla agent status`. */
  | 'agent/no-model'
  /** Too many requests wait for the model; ask again later. */
  | 'agent/busy'
  /** The request asks for what the model cannot do: a prompt longer than its context, a schema that cannot be met, an option outside its range; the message says which. */
  | 'agent/request'
  /** The model is not a text model, and only those answer prompts; ask for a bench instead. */
  | 'agent/not-text';

/** An agent that cannot start or act. */
export class AgentError extends Error {
  override readonly name = 'AgentError';
  readonly code: AgentErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: AgentErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
