import { onnx } from '../generated/onnx.js';
import { decodeAttribute } from './attribute.ts';
import type { ExternalFolder } from './external.ts';
import type { GraphBody } from './graph.ts';
import { bytesFields, type Message } from './message.ts';
import { type Placing, placed } from './placing.ts';
import { Rope } from './rope.ts';
import type { Source } from './source.ts';
import { StoredTensor } from './tensor.ts';
import type { Attribute } from './types.ts';
import { WIRE_BYTES } from './wire.ts';

const NAME = 1;
const TENSOR = 5;
const GRAPH = 6;
const GRAPHS = 11;
const nameField: ReadonlySet<number> = new Set([NAME]);

/** An attribute by its place in its source, with the bodies in it, which can be edited. */
export class NodeAttribute {
  readonly name: string;
  readonly message: Message;
  /** Where its field begins in the node's message; undefined for a new one. */
  readonly slot: number | undefined;
  readonly bodies: readonly GraphBody[];

  constructor(
    message: Message,
    slot: number | undefined,
    makeBody: (message: Message) => GraphBody,
    from?: NodeAttribute,
  ) {
    this.message = message;
    this.slot = slot;
    if (from !== undefined) {
      this.name = from.name;
      this.bodies = from.bodies.length === 0 ? none : from.bodies.map((body) => makeBody(body.message));
      return;
    }
    const fields = message.fields();
    this.name = message.decode(onnx.AttributeProto, fields, nameField).name;
    const body = message.child(fields, GRAPH);
    const bodies = bytesFields(fields, GRAPHS).map((field) => message.at(field));
    this.bodies = body === undefined && bodies.length === 0 ? none : [...(body ? [body] : []), ...bodies].map(makeBody);
  }

  decode(folder: ExternalFolder): Attribute {
    return decodeAttribute(this.message, this.bodies, folder);
  }

  /** True if it can be written as it stands in that source. */
  isVerbatim(source: Source, place: Placing | undefined): boolean {
    return this.message.source === source && place === undefined && !this.bodies.some((body) => body.edited);
  }

  /** Its content; anew only where a body was edited or external data comes inside. */
  rope(folder: ExternalFolder, place: Placing | undefined): Rope {
    if (this.isVerbatim(this.message.source, place)) return this.message.rope();
    const rope = new Rope();
    const fields = this.message.fields();
    const tensor = this.message.child(fields, TENSOR);
    const bodies = [...this.bodies];
    const merged = new Set<number>();
    for (const { number, wire, start, end } of fields) {
      if (wire !== WIRE_BYTES || (number !== TENSOR && number !== GRAPH && number !== GRAPHS))
        rope.addRange(this.message.source, start, end);
      // A repeated singular message is one message: it is written where it first stood.
      else if (number !== GRAPHS && merged.has(number)) continue;
      else if (number === TENSOR && tensor !== undefined)
        rope.addField(TENSOR, placed(new StoredTensor(tensor, folder), place));
      else {
        const body = bodies.shift();
        if (body !== undefined) rope.addField(number, body.rope(place));
      }
      merged.add(number);
    }
    return rope;
  }
}

const none: readonly GraphBody[] = [];
