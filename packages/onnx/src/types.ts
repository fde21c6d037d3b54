/** Element types of a tensor, by their ONNX TensorProto.DataType names in lower case. */
export type DataType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int64'
  | 'int32'
  | 'int16'
  | 'int8'
  | 'int4'
  | 'int2'
  | 'uint64'
  | 'uint32'
  | 'uint16'
  | 'uint8'
  | 'uint4'
  | 'uint2'
  | 'bool'
  | 'string'
  | 'complex64'
  | 'complex128'
  | 'float8e4m3fn'
  | 'float8e4m3fnuz'
  | 'float8e5m2'
  | 'float8e5m2fnuz'
  | 'float8e8m0'
  | 'float4e2m1'
  | 'float6e2m3'
  | 'float6e3m2';

/** A constant. Nothing is read from disk before `bytes()`; nothing is kept after it. */
export interface Tensor {
  readonly name: string;
  readonly dtype: DataType;
  readonly dims: readonly number[];
  /** Bytes of the elements in ONNX `raw_data` layout (little-endian; 4-bit types two to a byte, low nibble first). */
  readonly byteLength: number;
  /**
   * The elements in `raw_data` layout, whatever field they are stored in; a view where the source allows one.
   * @throws {OnnxError} `onnx/…` if the external file changed, is missing or leaves its folder
   */
  bytes(): Uint8Array;
  /** The part `[start, end)` of `bytes()`, without the rest where it lies in a file. @throws as `bytes` */
  part(start: number, end: number): Uint8Array;
  /** The file that the bytes lie in, for threads that read it themselves; undefined where they lie in none as they are. @throws as `bytes` */
  openFile(): OpenBytes | undefined;
}

/** An open file, and where a tensor's bytes begin in it. Valid until `close`, which whoever opened it calls. */
export interface OpenBytes {
  readonly fd: number;
  readonly offset: number;
  readonly close: () => void;
}

/** A dimension: its length, a symbolic name, or unknown. */
export type Dim = number | string | undefined;

/** What is known of a value; `dims` undefined: not even the rank. */
export interface ValueType {
  readonly dtype: DataType;
  readonly dims: readonly Dim[] | undefined;
}

/** A graph input or output. `type` is undefined for sequences, maps and optionals, and where the model does not say. */
export interface ValueInfo {
  readonly name: string;
  readonly type: ValueType | undefined;
}

/** An attribute's value, by the kind that the file states. int64 is bigint. */
export type Attribute =
  | { readonly kind: 'float'; readonly value: number }
  | { readonly kind: 'int'; readonly value: bigint }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'tensor'; readonly value: Tensor }
  | { readonly kind: 'graph'; readonly value: Graph }
  | { readonly kind: 'floats'; readonly value: readonly number[] }
  | { readonly kind: 'ints'; readonly value: readonly bigint[] }
  | { readonly kind: 'strings'; readonly value: readonly string[] }
  | { readonly kind: 'graphs'; readonly value: readonly Graph[] }
  | { readonly kind: 'other'; readonly value: undefined };

/** What an attribute can be written from: integers are `bigint` or `number` with `kind: 'int'` spelt out by `NewAttribute`. */
export type NewAttribute =
  | { readonly float: number }
  | { readonly int: number | bigint }
  | { readonly string: string }
  | { readonly tensor: NewTensor }
  | { readonly floats: readonly number[] }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly strings: readonly string[] }
  | { readonly graph: NewGraph };

export interface NewTensor {
  readonly dtype: DataType;
  readonly dims: readonly number[];
  /** In `raw_data` layout. */
  readonly bytes: Uint8Array;
}

export interface NewNode {
  readonly opType: string;
  /** '' is a left-out optional input. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly name?: string | undefined;
  readonly domain?: string | undefined;
  readonly attributes?: { readonly [name: string]: NewAttribute } | undefined;
}

/** A graph to be built: a model's, or a body of If, Loop or Scan. */
export interface NewGraph {
  readonly name?: string | undefined;
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly nodes: readonly NewNode[];
  readonly initializers?: { readonly [name: string]: NewTensor } | undefined;
}

export interface Node {
  readonly graph: Graph;
  readonly name: string;
  readonly opType: string;
  /** '' for ai.onnx. */
  readonly domain: string;
  /** '' is a left-out optional input. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly attributes: ReadonlyMap<string, Attribute>;
  /** What the exporter noted of the node, read from the file at each call. */
  readonly metadata: ReadonlyMap<string, string>;
  /** An `int` attribute as a number, or the fallback where it is absent. @throws {OnnxError} `onnx/attribute` for another kind or an unsafe integer */
  int(name: string, fallback: number): number;
  ints(name: string, fallback: readonly number[]): readonly number[];
  float(name: string, fallback: number): number;
  string(name: string, fallback: string): string;
  /** Bodies of If, Loop, Scan …, in attribute order. */
  readonly subgraphs: readonly Graph[];
  setInput(index: number, value: string): void;
  setOutput(index: number, value: string): void;
  setAttribute(name: string, value: NewAttribute | undefined): void;
}

export interface Graph {
  readonly model: Model;
  /** The node whose body this is; undefined for the main graph. */
  readonly owner: Node | undefined;
  readonly name: string;
  /** In the file's (topological) order. */
  readonly nodes: readonly Node[];
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /** By name. Sparse initializers are not in here and are kept as they are. */
  readonly initializers: ReadonlyMap<string, Tensor>;
  /** What the file notes of values in between; those that were made anew since are left out. */
  readonly valueInfos: readonly ValueInfo[];
  /** This graph's nodes and, depth first, those of every body inside it. */
  walk(filter?: { readonly opType?: string | undefined; readonly domain?: string | undefined }): Iterable<Node>;
  /** The node of this graph that makes the value. */
  producer(value: string): Node | undefined;
  /** Nodes that read the value: of this graph, and of bodies inside it that capture the name from here. */
  consumers(value: string): readonly Node[];
  isOutput(value: string): boolean;
  isInput(value: string): boolean;
  /** The tensor behind a value: an initializer that no input shadows, or a `Constant` node (all its value forms); sees through `Identity`, and outwards from a body. */
  constant(value: string): Tensor | undefined;
  /** A name that no value or node in the whole model has. */
  uniqueName(prefix: string): string;
  /** Inserts before `before`, or at the end. Node name: `name`, else unique after the op. */
  addNode(node: NewNode, options?: { readonly before?: Node | undefined }): Node;
  addInitializer(name: string, tensor: NewTensor): Tensor;
  /** Removes a node; its outputs must have no readers left (not checked: `removeDead` and the checker are for that). */
  removeNode(node: Node): void;
  removeInitializer(name: string): void;
  /** Makes every reader of `from` (bodies included) read `to`; a graph output named `from` keeps its name only if `to` can be renamed to it. */
  replaceUses(from: string, to: string): void;
  /** Removes a one-in one-out node and joins its input to its readers, keeping graph input and output names. @throws {OnnxError} `onnx/bypass` where both sides are the graph's own names */
  bypass(node: Node): void;
  /** True when the node links a graph input (or initializer) straight to a graph output: it cannot be bypassed. */
  joinsInputToOutput(node: Node): boolean;
  /** Drops nodes and initializers that no output depends on; returns how many nodes went. */
  removeDead(): number;
  setOutputs(names: readonly ValueInfo[]): void;
  setInputs(inputs: readonly ValueInfo[]): void;
}

export interface Model {
  readonly graph: Graph;
  readonly irVersion: number;
  /** Version per domain ('' = ai.onnx). */
  readonly opset: ReadonlyMap<string, number>;
  readonly producer: string;
  readonly metadata: ReadonlyMap<string, string>;
  /** What was read past: foreign keys in external data. */
  readonly warnings: readonly string[];
  setOpset(domain: string, version: number): void;
  setIrVersion(version: number): void;
  setMetadata(key: string, value: string): void;
}
