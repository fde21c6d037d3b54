import { onnx } from '../../generated/onnx.js';
import { OnnxError } from '../errors.ts';
import { bytesFields, type Message } from '../message.ts';
import type { OnnxModel } from '../model.ts';

const FUNCTION = 25;
const NODE = 7;
const functionFields: ReadonlySet<number> = new Set([1, 10, 13]);
const nodeFields: ReadonlySet<number> = new Set([4, 7, 8]);

/** A model's own functions may call each other, but not in a ring: they are expanded in place. @throws {OnnxError} `onnx/cycle`, `onnx/duplicate` */
export function checkFunctions(model: OnnxModel): void {
  const calls = new Map<string, readonly string[]>();
  for (const field of bytesFields(model.message.fields(), FUNCTION)) {
    const message = model.message.at(field);
    const fields = message.fields();
    const own = message.decode(onnx.FunctionProto, fields, functionFields);
    const name = keyOf(own.domain, own.name, own.overload);
    if (calls.has(name))
      throw new OnnxError('onnx/duplicate', `two functions are called "${own.name}"`, { where: own.name });
    calls.set(
      name,
      bytesFields(fields, NODE).map((node) => calledBy(message.at(node))),
    );
  }
  checkRings(calls);
}

function calledBy(message: Message): string {
  const node = message.decode(onnx.NodeProto, message.fields(), nodeFields);
  return keyOf(node.domain, node.opType, node.overload);
}

function keyOf(domain: string, name: string, overload: string): string {
  return JSON.stringify([domain === 'ai.onnx' ? '' : domain, name, overload]);
}

/** Takes away functions that call none of those left, until none is left or all that are call each other. */
function checkRings(calls: ReadonlyMap<string, readonly string[]>): void {
  const callers = new Map<string, string[]>();
  const open = new Map<string, number>();
  for (const [name, called] of calls) {
    const own = new Set(called.filter((other) => calls.has(other)));
    open.set(name, own.size);
    for (const other of own) callers.set(other, [...(callers.get(other) ?? []), name]);
  }
  const done = [...open].filter(([, count]) => count === 0).map(([name]) => name);
  for (const name of done) {
    open.delete(name);
    for (const caller of callers.get(name) ?? []) {
      const left = (open.get(caller) ?? 0) - 1;
      open.set(caller, left);
      if (left === 0) done.push(caller);
    }
  }
  const [ring] = open.keys();
  if (ring === undefined) return;
  const [, name = ''] = JSON.parse(ring) as string[];
  throw new OnnxError('onnx/cycle', `function "${name}" calls itself, by others or not`, { where: name });
}
