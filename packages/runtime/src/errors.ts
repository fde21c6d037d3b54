/** Codes travel in reports and `--json`: never renamed. */
export type RuntimeErrorCode =
  /** doc: ONNX Runtime cannot load the model (damaged, too new, an operator it lacks); check the file with `flotilla inspect` */
  | 'runtime/load'
  /** doc: an input is missing, unknown, or has another type or shape than the model's; compare with `flotilla inspect` */
  | 'runtime/input'
  /** doc: an operator failed while the model ran; the message names the node */
  | 'runtime/run'
  /** doc: the child process that held the model died (a crash in native code, or killed from outside); open it again */
  | 'runtime/crashed'
  /** doc: loading or one run took longer than the watchdog allows, and the child process was ended; raise `timeoutMs` or `loadTimeoutMs` if the model is that slow */
  | 'runtime/timeout'
  /** doc: the child process grew past its memory cap and was ended; raise `memoryCapBytes` or take a smaller model or input */
  | 'runtime/memory'
  /** doc: the session was closed, or ended by an earlier failure; open it again */
  | 'runtime/closed'
  /** doc: a `.npy` or `.npz` file is damaged, compressed in an unknown way, or holds a type that no tensor has */
  | 'runtime/npz'
  /** doc: tokenizer.json is missing or cannot be read, or does not fit the model */
  | 'runtime/tokenizer'
  /** doc: the prompt has more tokens than the model's context holds; shorten it */
  | 'runtime/context'
  /** doc: an option of text generation is outside its range, or has no effect beside the others; the message says which values make sense */
  | 'runtime/options'
  /** doc: the model has no chat template, or its template does not take these messages (roles in another order, too long a loop); give a plain prompt, or mend the messages */
  | 'runtime/chat'
  /** doc: a JSON schema asks for what is not supported, no text meets it, or the answer cannot be completed within the tokens allowed; the message names the place */
  | 'runtime/schema'
  /** doc: the model is not a causal language model with a KV cache in the naming of Optimum's exports */
  | 'runtime/not-text'
  /** doc: the pack has no model, golden vectors or tolerance for this board's class; compile it for this board */
  | 'runtime/pack'
  /** doc: no adapter of this name lies beside the model, or one belongs to another model; `flotilla pack ls` lists them */
  | 'runtime/adapter'
  /** doc: a model could not be rebuilt from its base and an adapter's factors, or not here; a device then fetches it whole */
  | 'runtime/rebuild'
  /** doc: the lowered model cannot be written beside its final name; see the cause (space, permission) */
  | 'runtime/cache'
  /** doc: a latency histogram cannot be decoded */
  | 'runtime/histogram'
  /** doc: the profile that ONNX Runtime wrote cannot be found or read */
  | 'runtime/profile';

/** A model that cannot be loaded or run. */
export class RuntimeError extends Error {
  override readonly name = 'RuntimeError';
  readonly code: RuntimeErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: RuntimeErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
