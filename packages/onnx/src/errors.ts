/** Codes travel in reports and `--json`: never renamed. */
export type OnnxErrorCode =
  /** The bytes are not an ONNX model (no graph in them); check that the right file was named. */
  | 'onnx/not-a-model'
  /** The file cannot be opened or read; see `cause`. */
  | 'onnx/file'
  /** The file changed while the model was open; open it again. */
  | 'onnx/changed'
  /** Broken protobuf at the offset in `where`, or a file cut short; fetch the file again. */
  | 'onnx/malformed'
  /** Messages lie more than 100 deep in each other; nothing that an exporter makes does. */
  | 'onnx/too-deep'
  /** More than 2 GiB inline, protobuf's limit; keep the weights as external data. */
  | 'onnx/too-large'
  /** A tensor's dims are negative or their product cannot be counted. */
  | 'onnx/dims'
  /** A tensor's data does not fit its dims and type, or lies in two fields at once. */
  | 'onnx/tensor-data'
  /** An element type that ONNX does not define, or that the call cannot convert. */
  | 'onnx/data-type'
  /** The tensor is stored in segments, which nothing supports; export the model again. */
  | 'onnx/segment'
  /** An attribute is of another kind than its operator wants, or too large for a number. */
  | 'onnx/attribute'
  /** A node cannot be taken out: it joins two names that belong to the graph's signature. */
  | 'onnx/bypass'
  /** Two values, initializers or nodes have one name, or a body's name shadows an outer one. */
  | 'onnx/duplicate'
  /** A name is missing, or is not valid UTF-8. */
  | 'onnx/name'
  /** Nodes that need each other's outputs. */
  | 'onnx/cycle'
  /** A node stands before the one whose output it reads; ONNX wants topological order. */
  | 'onnx/order'
  /** A node or an output names a value that nothing makes. */
  | 'onnx/undefined-value'
  /** No operator set is imported, or one that is newer than this build knows. */
  | 'onnx/opset'
  /** A quantization node's scale, zero point, axis or block size is impossible. */
  | 'onnx/quant'
  /** A weight is NaN; the export went wrong, or pass `allowNan`. */
  | 'onnx/not-finite'
  /** External data: the location is not a plain path inside the model's folder. */
  | 'onnx/external-path'
  /** External data: not a regular file with one name (a link, pipe, device, folder), or missing. */
  | 'onnx/external-file'
  /** External data: offset or length is not a plain number, or reaches outside the file. */
  | 'onnx/external-range'
  /** External data: a key stands twice, or `location` is missing. */
  | 'onnx/external-key'
  /** External data: the file's SHA-1 is not the stated one. */
  | 'onnx/external-checksum'
  /** The target of a write is a link, a folder or a device; name a plain file. */
  | 'onnx/write-target'
  /** The file cannot be written; see `cause`. The old file, if any, is as it was. */
  | 'onnx/write';

/** A model that cannot be read, edited or written as asked. */
export class OnnxError extends Error {
  override readonly name = 'OnnxError';
  readonly code: OnnxErrorCode;
  /** File, node or offset. */
  readonly where: string | undefined;
  /** How to mend it. */
  readonly hint: string | undefined;
  constructor(
    code: OnnxErrorCode,
    message: string,
    options?: ErrorOptions & { where?: string | undefined; hint?: string | undefined },
  ) {
    super(message, options);
    this.code = code;
    this.where = options?.where;
    this.hint = options?.hint;
  }
}
