import { onnx } from '../generated/onnx.js';
import { OnnxError } from './errors.ts';
import { GraphBody } from './graph.ts';
import { bytesFields, Message } from './message.ts';
import { NodeAttribute } from './node-attribute.ts';
import type { Placing } from './placing.ts';
import { attributeProperties } from './properties.ts';
import { Rope } from './rope.ts';
import type { Attribute, NewAttribute, Node } from './types.ts';
import { encodeHead, type Field, WIRE_BYTES } from './wire.ts';

const INPUT = 1;
const OUTPUT = 2;
const ATTRIBUTE = 5;
const METADATA: ReadonlySet<number> = new Set([9]);
const OVERLOAD: ReadonlySet<number> = new Set([8]);
const plainFields: ReadonlySet<number> = new Set([INPUT, OUTPUT, 3, 4, 7]);

/** What the file says; edits are told by comparison. Shared by clones. */
type Plain = Pick<onnx.NodeProto, 'name' | 'opType' | 'domain' | 'input' | 'output'>;

/** A node by its place in its source, with its edits. */
export class GraphNode implements Node {
  readonly graph: GraphBody;
  readonly message: Message;
  /** Where its field begins in the graph's message; undefined for one that was added. */
  readonly slot: number | undefined;
  /** Neighbours in the graph's order. */
  previous: GraphNode | undefined;
  next: GraphNode | undefined;
  removed = false;
  edited: boolean;
  readonly #plain: Plain;
  #inputs: readonly string[];
  #outputs: readonly string[];
  #attributes: readonly NodeAttribute[];
  #decoded: Map<string, Attribute> | undefined;

  constructor(graph: GraphBody, message: Message, slot: number | undefined, from?: GraphNode) {
    this.graph = graph;
    this.message = message;
    this.slot = slot;
    this.edited = from?.edited ?? false;
    if (from !== undefined) {
      this.#plain = from.#plain;
      this.#attributes = from.#attributes.map((a) => this.#attribute(a.message, a.slot, a));
    } else {
      const fields = message.fields();
      this.#plain = readPlain(message, fields);
      const attributes = bytesFields(fields, ATTRIBUTE).map((field) => this.#attribute(message.at(field), field.start));
      this.#attributes = attributes.length === 0 ? noAttributes : attributes;
    }
    this.#inputs = from === undefined ? this.#plain.input : from.#inputs;
    this.#outputs = from === undefined ? this.#plain.output : from.#outputs;
  }

  get name(): string {
    return this.#plain.name;
  }

  get opType(): string {
    return this.#plain.opType;
  }

  get domain(): string {
    return this.#plain.domain === 'ai.onnx' ? '' : this.#plain.domain;
  }

  get inputs(): readonly string[] {
    return this.#inputs;
  }

  get outputs(): readonly string[] {
    return this.#outputs;
  }

  get metadata(): ReadonlyMap<string, string> {
    const { metadataProps } = this.message.decode(onnx.NodeProto, this.message.fields(), METADATA);
    return new Map(metadataProps.map(({ key, value }) => [key ?? '', value ?? '']));
  }

  /** Which of a function's forms is called; '' for nearly all. Read from the file at each call. */
  get overload(): string {
    return this.message.decode(onnx.NodeProto, this.message.fields(), OVERLOAD).overload;
  }

  /** AttributeProtos by name. */
  encodedAttributes(): ReadonlyMap<string, Uint8Array> {
    return new Map(this.#attributes.map((one) => [one.name, one.rope(this.graph.folder, undefined).toBytes()]));
  }

  get attributes(): ReadonlyMap<string, Attribute> {
    this.#decoded ??= new Map(this.#attributes.map((one) => [one.name, one.decode(this.graph.folder)]));
    return this.#decoded;
  }

  get subgraphs(): readonly GraphBody[] {
    return this.#attributes.flatMap(({ bodies }) => bodies);
  }

  int(name: string, fallback: number): number {
    const attribute = this.#get(name, 'int');
    return attribute === undefined ? fallback : this.#safe(name, attribute.value);
  }

  ints(name: string, fallback: readonly number[]): readonly number[] {
    const attribute = this.#get(name, 'ints');
    return attribute === undefined ? fallback : attribute.value.map((value) => this.#safe(name, value));
  }

  float(name: string, fallback: number): number {
    return this.#get(name, 'float')?.value ?? fallback;
  }

  string(name: string, fallback: string): string {
    return this.#get(name, 'string')?.value ?? fallback;
  }

  setInput(index: number, value: string): void {
    const before = this.#inputs[index] ?? '';
    this.#inputs = withName(this.#inputs, index, value);
    this.graph.inputChanged(this, before, value);
    this.markEdited();
  }

  setOutput(index: number, value: string): void {
    const before = this.#outputs[index] ?? '';
    this.#outputs = withName(this.#outputs, index, value);
    this.graph.outputChanged(this, before, value);
    this.markEdited();
  }

  setAttribute(name: string, value: NewAttribute | undefined): void {
    const before = this.#attributes.findLast((attribute) => attribute.name === name);
    const hadBodies = before !== undefined && before.bodies.length > 0;
    const attributes = this.#attributes.filter((attribute) => attribute.name !== name);
    if (value !== undefined) {
      const bytes = onnx.AttributeProto.encode(attributeProperties(name, value)).finish();
      attributes.push(this.#attribute(Message.of(bytes, this.message.depth + 1), before?.slot));
    }
    this.#attributes = attributes;
    this.#decoded = undefined;
    if (hadBodies || (value !== undefined && 'graph' in value)) this.graph.bodiesChanged();
    this.markEdited();
  }

  markEdited(): void {
    this.edited = true;
    this.graph.markEdited();
  }

  /** The message's content: what was not edited byte for byte and in its place, what is new at the end. */
  rope(place: Placing | undefined): Rope {
    if (!this.edited && place === undefined) return this.message.rope();
    const rope = new Rope();
    const attributes = new Map(this.#attributes.map((attribute) => [attribute.slot ?? attribute, attribute]));
    let [input, output] = [0, 0];
    for (const { number, wire, start, end } of this.message.fields()) {
      const verbatim = () => rope.addRange(this.message.source, start, end);
      if (wire === WIRE_BYTES && number === INPUT) {
        if (this.#plain.input[input] === this.#inputs[input]) verbatim();
        else addName(rope, INPUT, this.#inputs[input]);
        input++;
      } else if (wire === WIRE_BYTES && number === OUTPUT) {
        if (this.#plain.output[output] === this.#outputs[output]) verbatim();
        else addName(rope, OUTPUT, this.#outputs[output]);
        output++;
      } else if (wire === WIRE_BYTES && number === ATTRIBUTE) {
        const attribute = attributes.get(start);
        attributes.delete(start);
        if (attribute?.isVerbatim(this.message.source, place)) verbatim();
        else if (attribute !== undefined) rope.addField(ATTRIBUTE, attribute.rope(this.graph.folder, place));
      } else verbatim();
    }
    for (const name of this.#inputs.slice(input)) addName(rope, INPUT, name);
    for (const name of this.#outputs.slice(output)) addName(rope, OUTPUT, name);
    for (const attribute of attributes.values()) rope.addField(ATTRIBUTE, attribute.rope(this.graph.folder, place));
    return rope;
  }

  #attribute(message: Message, slot: number | undefined, from?: NodeAttribute): NodeAttribute {
    const makeBody = (body: Message) =>
      new GraphBody(
        this.graph.model,
        this,
        body,
        from?.bodies.find((one) => one.message === body),
      );
    return new NodeAttribute(message, slot, makeBody, from);
  }

  #get<K extends Attribute['kind']>(name: string, kind: K): Extract<Attribute, { kind: K }> | undefined {
    const attribute = this.attributes.get(name);
    if (attribute === undefined) return undefined;
    if (attribute.kind === kind) return attribute as Extract<Attribute, { kind: K }>;
    throw new OnnxError('onnx/attribute', `${describe(this)}: attribute "${name}" is ${attribute.kind}, not ${kind}`, {
      where: describe(this),
    });
  }

  #safe(name: string, value: bigint): number {
    const number = Number(value);
    if (Number.isSafeInteger(number)) return number;
    throw new OnnxError('onnx/attribute', `${describe(this)}: attribute "${name}" is ${value}, too large`, {
      where: describe(this),
    });
  }
}

const noAttributes: readonly NodeAttribute[] = [];

/** Operators' names are few: each is kept once, however many nodes have it. */
const internedNames = new Map<string, string>();

function readPlain(message: Message, fields: readonly Field[]): Plain {
  const { name, opType, domain, input, output } = message.decode(onnx.NodeProto, fields, plainFields);
  if (opType === '')
    throw new OnnxError(
      'onnx/malformed',
      `${message.source.name}: a node without an operator, at byte ${message.start}`,
      {
        where: `${message.source.name}, byte ${message.start}`,
      },
    );
  // Copied to size: a list that was pushed to has room for 17.
  return { name, opType: intern(opType), domain: intern(domain), input: input.slice(), output: output.slice() };
}

function intern(name: string): string {
  const known = internedNames.get(name);
  if (known !== undefined) return known;
  if (internedNames.size < 1000) internedNames.set(name, name);
  return name;
}

/** How messages call a node: by its operator and its name, or by what it makes. */
export function describe(node: Pick<Node, 'opType' | 'name' | 'outputs'>): string {
  return `${node.opType} "${node.name || node.outputs[0] || ''}"`;
}

function withName(names: readonly string[], index: number, value: string): readonly string[] {
  const copy = [...names];
  while (copy.length < index) copy.push('');
  copy[index] = value;
  return copy;
}

const encoder = new TextEncoder();

function addName(rope: Rope, number: number, name = ''): void {
  const bytes = encoder.encode(name);
  rope.add(encodeHead(number, bytes.length)).add(bytes);
}
