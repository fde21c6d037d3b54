/** Codes travel in reports and `--json`: never renamed. */
export type CheckpointErrorCode =
  /** doc: the file is not safetensors, or cut off: no length, no JSON header; download it again */
  | 'checkpoint/not-safetensors'
  /** doc: the header is said to be longer than 100 MB, or than the file; the file is damaged or hostile */
  | 'checkpoint/header-length'
  /** doc: an entry of the header lacks a dtype, shape or offsets, or they do not fit each other; the writer is at fault */
  | 'checkpoint/tensor-info'
  /** doc: tensors overlap, leave a gap, end past the file or leave bytes over; the file is damaged or hostile */
  | 'checkpoint/offsets'
  /** doc: an element type that the safetensors format does not have, or that cannot be read as numbers here */
  | 'checkpoint/dtype'
  /** doc: a name stands twice in the header, so that two readers may see different weights; write the file again */
  | 'checkpoint/duplicate'
  /** doc: there is no tensor or file of that name; the message says what there is */
  | 'checkpoint/missing'
  /** doc: adapter_config.json is not JSON, or a field has a value that PEFT never writes */
  | 'checkpoint/adapter-config'
  /** doc: the adapter uses a method or variant that cannot be merged, named in the message; save it as plain LoRA */
  | 'checkpoint/adapter-kind'
  /** doc: the adapter's tensors do not pair up, their shapes do not fit its rank, or a number is not finite */
  | 'checkpoint/adapter-tensors'
  /** doc: target_modules, exclude_modules or layers_to_transform leave out modules that the file has factors for */
  | 'checkpoint/adapter-targets'
  /** doc: a weight in bitsandbytes' 4 bits lacks a companion, or its lengths or numbers do not fit; save it anew */
  | 'checkpoint/four-bit'
  /** doc: weights of a quantizer that is not read (GPTQ, AWQ, FP8, int8); give the float or bitsandbytes 4-bit ones */
  | 'checkpoint/quantized'
  /** doc: model.safetensors.index.json is damaged, or its shards hold other tensors than it says */
  | 'checkpoint/index'
  /** doc: the folder has no model.onnx or onnx/model.onnx; export the model to ONNX first */
  | 'checkpoint/no-model';

/** Weights that cannot be read. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError';
  readonly code: CheckpointErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: CheckpointErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
