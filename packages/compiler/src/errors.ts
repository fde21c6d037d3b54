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
  | 'compiler/graph'
  /** doc: data that is not there, not in a form that is read, or does not fit the model's inputs; the sample is named */
  | 'compiler/data'
  /** doc: the file for --preprocess is not what it should be, or leaves an input of the model unfilled */
  | 'compiler/preprocess'
  /** doc: an unknown metric, one that does not fit the data, or a metric module that failed */
  | 'compiler/metric'
  /** doc: a module of an adapter finds no layer in the graph, or more than one; the message names the candidates */
  | 'compiler/lora-home'
  /** doc: a module of an adapter has another shape than the layer of its name; the adapter is for another base model */
  | 'compiler/lora-shape'
  /** doc: a layer finds no weights in the checkpoint for --base though others do: another model's, or use --lora-map */
  | 'compiler/base'
  /** doc: the adapters cannot be combined this way, named in the message; merge them one after the other (`cat`) */
  | 'compiler/lora-combine'
  /** doc: the file for --lora-map is no map of modules to nodes or initializers */
  | 'compiler/lora-map'
  /** doc: the adapter says that it was trained for another base model than this; give that base, or --lora-any-base */
  | 'compiler/lora-base'
  /** doc: an adapter cannot stay beside the base (--lora-mode branch), or not with these options; the message says why; merge it */
  | 'compiler/lora-branch'
  /** doc: an adapter cannot be merged on devices that hold this base pack (--lora-mode rebuild), or not with these options; the message says why */
  | 'compiler/lora-rebuild'
  /** doc: a node would run many times slower than meant on a board that the pack is for; the message has the mend, `--force` ships it */
  | 'compiler/cliff'
  /** doc: what comes in a later release, such as a model that is quantized already; the message names it */
  | 'compiler/not-yet'
  /** doc: a budget that is not KEY=VALUE, or no data to choose on; give size=, accuracy= or latency=, and --data */
  | 'compiler/budget'
  /** doc: the output cannot be written: the folder is missing, read-only or full */
  | 'compiler/output';

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
