import { onnx } from '../generated/onnx.js';
import { OnnxError } from './errors.ts';
import type { ExternalFolder } from './external.ts';
import { GraphBody } from './graph.ts';
import { toBigInt, toLong } from './long.ts';
import type { Message } from './message.ts';
import { ModelNames } from './model-names.ts';
import type { Placing } from './placing.ts';
import { Rope } from './rope.ts';
import type { ScratchFile } from './scratch.ts';
import type { Model } from './types.ts';
import { type Field, WIRE_BYTES } from './wire.ts';

const IR_VERSION = 1;
const PRODUCER = 2;
const GRAPH = 7;
const OPSET_IMPORT = 8;
const METADATA = 14;
const FUNCTION = 25;
const plainFields: ReadonlySet<number> = new Set([IR_VERSION, PRODUCER, OPSET_IMPORT, METADATA]);

/** A ModelProto in its source, with its edits. */
export class OnnxModel implements Model {
  readonly message: Message;
  readonly folder: ExternalFolder;
  readonly graph: GraphBody;
  readonly names: ModelNames;
  edited: boolean;
  /** Where new constants go that are not small; undefined: they stay in memory. */
  scratch: ScratchFile | undefined;
  /** What the file says; edits are told by comparison. Shared by clones. */
  readonly #plain: onnx.ModelProto;
  #irVersion: number;
  readonly #opset: Map<string, number>;
  readonly #metadata: Map<string, string>;
  /** Where the fields of functions begin that are not written any more. */
  #droppedFunctions: ReadonlySet<number>;

  constructor(message: Message, folder: ExternalFolder, from?: OnnxModel) {
    const fields = message.fields();
    this.message = message;
    this.folder = folder;
    this.edited = from?.edited ?? false;
    this.scratch = from?.scratch;
    this.#plain = from === undefined ? message.decode(onnx.ModelProto, fields, plainFields) : from.#plain;
    this.#irVersion = from?.irVersion ?? Number(toBigInt(this.#plain.irVersion));
    this.#opset = new Map(from?.opset ?? this.#plain.opsetImport.map(opsetEntry));
    this.#metadata = new Map(from?.metadata ?? this.#plain.metadataProps.map(metadataEntry));
    this.#droppedFunctions = from?.droppedFunctions ?? new Set();
    const graph = from?.graph.message ?? message.child(fields, GRAPH);
    if (graph === undefined)
      throw new OnnxError('onnx/not-a-model', `${message.source.name} is not an ONNX model: it has no graph`, {
        where: message.source.name,
      });
    if (this.#opset.size === 0)
      throw new OnnxError('onnx/opset', `${message.source.name} imports no operator set`, {
        where: message.source.name,
        hint: 'export it again',
      });
    this.graph = new GraphBody(this, undefined, graph, from?.graph);
    this.names = new ModelNames(this.graph);
  }

  get irVersion(): number {
    return this.#irVersion;
  }

  get producer(): string {
    return this.#plain.producerName;
  }

  get opset(): ReadonlyMap<string, number> {
    return this.#opset;
  }

  get metadata(): ReadonlyMap<string, string> {
    return this.#metadata;
  }

  get warnings(): readonly string[] {
    return this.folder.warnings;
  }

  setOpset(domain: string, version: number): void {
    this.#opset.set(domain, version);
    this.edited = true;
  }

  setIrVersion(version: number): void {
    this.#irVersion = version;
    this.edited = true;
  }

  setMetadata(key: string, value: string): void {
    this.#metadata.set(key, value);
    this.edited = true;
  }

  get droppedFunctions(): ReadonlySet<number> {
    return this.#droppedFunctions;
  }

  /** By where their fields begin: they are not written any more. */
  dropFunctions(slots: readonly number[]): void {
    if (slots.length === 0) return;
    this.#droppedFunctions = new Set([...this.#droppedFunctions, ...slots]);
    this.edited = true;
  }

  /** The file's content: what was not edited byte for byte, what is new at the end. */
  rope(place?: Placing): Rope {
    if (!this.edited && place === undefined) return this.message.rope();
    const rope = new Rope();
    const opset = this.#changedOpset();
    const metadata = this.#changedMetadata();
    const sameIrVersion = this.#irVersion === Number(toBigInt(this.#plain.irVersion));
    let graphDone = false;
    for (const field of this.message.fields()) {
      const { number, wire, start, end } = field;
      const verbatim = () => rope.addRange(this.message.source, start, end);
      if (number === GRAPH && wire === WIRE_BYTES) {
        if (!this.graph.edited && place === undefined) verbatim();
        else if (!graphDone) rope.addField(GRAPH, this.graph.rope(place));
        graphDone = true;
      } else if (number === FUNCTION && this.#droppedFunctions.has(start)) continue;
      else if (number === IR_VERSION && !sameIrVersion) continue;
      else if (number === OPSET_IMPORT && opset.has(this.#domainAt(field))) continue;
      else if (number === METADATA && metadata.has(this.#keyAt(field))) continue;
      else verbatim();
    }
    return rope.add(
      onnx.ModelProto.encode({
        ...(sameIrVersion ? {} : { irVersion: toLong(this.#irVersion) }),
        opsetImport: [...opset].map(([domain, version]) => ({ domain, version: toLong(version) })),
        metadataProps: [...metadata].map(([key, value]) => ({ key, value })),
      }).finish(),
    );
  }

  #changedOpset(): ReadonlyMap<string, number> {
    const before = new Map(this.#plain.opsetImport.map(opsetEntry));
    return new Map([...this.#opset].filter(([domain, version]) => before.get(domain) !== version));
  }

  #changedMetadata(): ReadonlyMap<string, string> {
    const before = new Map(this.#plain.metadataProps.map(metadataEntry));
    return new Map([...this.#metadata].filter(([key, value]) => before.get(key) !== value));
  }

  #domainAt(field: Field): string {
    const message = this.message.at(field);
    return opsetEntry(message.decode(onnx.OperatorSetIdProto, message.fields(), domainField))[0];
  }

  #keyAt(field: Field): string {
    const message = this.message.at(field);
    return message.decode(onnx.StringStringEntryProto, message.fields(), keyField).key;
  }
}

const domainField: ReadonlySet<number> = new Set([1]);
const keyField: ReadonlySet<number> = new Set([1]);

/** `ai.onnx` is another spelling of the empty domain. */
function opsetEntry({ domain, version }: onnx.OperatorSetIdProto.$Properties): [string, number] {
  return [domain == null || domain === 'ai.onnx' ? '' : domain, Number(toBigInt(version ?? 0))];
}

function metadataEntry({ key, value }: onnx.StringStringEntryProto.$Properties): [string, string] {
  return [key ?? '', value ?? ''];
}
