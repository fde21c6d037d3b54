import { OnnxError } from '../errors.ts';
import { callsOf, functionsOf } from '../functions/functions-of.ts';
import type { OnnxModel } from '../model.ts';

/** A model's own functions may call each other, but not in a ring: they are expanded in place. @throws {OnnxError} `onnx/cycle`, `onnx/duplicate` */
export function checkFunctions(model: OnnxModel): void {
  checkRings(new Map([...functionsOf(model)].map(([key, { proto }]) => [key, [...callsOf(proto.node)]])));
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
