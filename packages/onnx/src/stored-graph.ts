import { onnx } from '../generated/onnx.js';
import type { ExternalFolder } from './external.ts';
import { bytesFields, type Message } from './message.ts';
import { decodeValueInfo } from './properties.ts';
import { StoredTensor } from './tensor.ts';
import type { ValueInfo } from './types.ts';
import type { Field } from './wire.ts';

export const NODE = 1;
const NAME = 2;
export const INITIALIZER = 5;
export const INPUT = 11;
export const OUTPUT = 12;
export const VALUE_INFO = 13;
const SPARSE_INITIALIZER = 15;
const SPARSE_VALUES = 1;
const TENSOR_NAME = 8;

export interface StoredInfo {
  readonly field: Field;
  readonly info: ValueInfo;
}

/** What a GraphProto has in its source, each list in the file's order. Never changed, so clones share it. */
export class StoredGraph {
  readonly name: string;
  /** The fields that nodes lie in. */
  readonly nodes: readonly Field[];
  readonly initializers: readonly StoredTensor[];
  /** Names of sparse initializers. */
  readonly sparse: ReadonlySet<string>;
  readonly inputs: readonly StoredInfo[];
  readonly outputs: readonly StoredInfo[];
  readonly #message: Message;
  #valueInfos: readonly StoredInfo[] | undefined;

  constructor(message: Message, folder: ExternalFolder) {
    const fields = message.fields();
    const infos = (number: number) => bytesFields(fields, number).map((field) => storedInfo(message, field));
    this.#message = message;
    this.name = message.decode(onnx.GraphProto, fields, new Set([NAME])).name;
    this.nodes = bytesFields(fields, NODE);
    this.initializers = bytesFields(fields, INITIALIZER).map((field) => new StoredTensor(message.at(field), folder));
    this.sparse = new Set(bytesFields(fields, SPARSE_INITIALIZER).map((field) => sparseName(message.at(field))));
    this.inputs = infos(INPUT);
    this.outputs = infos(OUTPUT);
  }

  /** Types of values in between. Read when asked for: only inference wants them. */
  get valueInfos(): readonly StoredInfo[] {
    this.#valueInfos ??= bytesFields(this.#message.fields(), VALUE_INFO).map((field) =>
      storedInfo(this.#message, field),
    );
    return this.#valueInfos;
  }
}

function storedInfo(message: Message, field: Field): StoredInfo {
  return { field, info: decodeValueInfo(message.at(field)) };
}

/** A sparse initializer has the name of its values. */
function sparseName(message: Message): string {
  const values = message.child(message.fields(), SPARSE_VALUES);
  if (values === undefined) return '';
  return values.decode(onnx.TensorProto, values.fields(), new Set([TENSOR_NAME])).name;
}
