import type { LoraAdapter, LoraModule } from '@flotilla/checkpoint';
import { floats, type Graph } from '@flotilla/onnx';
import { loraDelta, QuantError } from '@flotilla/quant';
import { CompilerError } from '../errors.ts';
import { findHomes, type Home } from './homes.ts';

/** Where one module's factors went. */
export interface MergedModule {
  readonly module: string;
  readonly node: string;
}

/**
 * Adds `weight · scale · B · A` to the weight that each module of an adapter was trained for, before anything is
 * quantized. Exported weights are anonymous and transposed (`onnx::MatMul_903`), so a module's home is the one MatMul or
 * Gemm whose node name has the module's path (`/model/layers.0/self_attn/q_proj/MatMul`), or whose initializer is named
 * after it, and whose shape fits. Nothing is merged unless every module has exactly one.
 * @param weight multiplies the adapter's own scale; default 1
 * @throws {CompilerError} `compiler/lora-home` naming the candidates; `compiler/lora-shape`; `compiler/weights`
 */
export function mergeLora(graph: Graph, adapter: LoraAdapter, weight = 1): readonly MergedModule[] {
  const homes = findHomes(graph);
  const found = [...adapter.modules].map(
    ([module, factors]) => [module, factors, homeOf(module, factors, homes, adapter.dir)] as const,
  );
  const taken = new Map<string, string>();
  for (const [module, , [home]] of found) {
    const other = taken.get(home.value);
    if (other !== undefined) throw homeError(adapter.dir, `${module} and ${other} both belong to ${home.node.name}`);
    taken.set(home.value, module);
  }
  for (const [module, factors, readers] of found) mergeInto(graph, readers, factors, module, weight);
  return found.map(([module, , [home]]) => ({ module, node: home.node.name }));
}

/** The readers of the one weight that is the module's. */
function homeOf(module: string, factors: LoraModule, homes: readonly Home[], where: string): [Home, ...Home[]] {
  const shape = `[${factors.outFeatures}, ${factors.inFeatures}]`;
  const named = homes.filter((home) => home.paths.some((path) => isSameModule(path, module)));
  const fitting = named.filter((home) => fits(home, factors));
  const [home, ...others] = fitting;
  if (home && others.every((other) => other.value === home.value)) return [home, ...others];
  if (home) throw homeError(where, `${module} ${shape} fits ${list(fitting)}`);
  if (named.length > 0) {
    const message = `${module} is ${shape}, and in the graph ${list(named)}: an adapter for another base model?`;
    throw new CompilerError('compiler/lora-shape', message, { where });
  }
  const namesakes = homes.filter((other) => other.paths.some((path) => lastPart(path) === lastPart(module)));
  const candidates = namesakes.length > 0 ? namesakes : homes.filter((other) => fits(other, factors));
  throw homeError(where, `${module} ${shape} has no home in the graph; nearest: ${list(candidates) || 'none'}`);
}

/** Readers outside the module (a tied embedding) keep the old weight: each named reader gets the new one. */
function mergeInto(
  graph: Graph,
  readers: readonly [Home, ...Home[]],
  factors: LoraModule,
  module: string,
  weight: number,
): void {
  const [{ tensor, storedInOut, readInOut, value }] = readers;
  const { inFeatures, outFeatures } = factors;
  const delta = deltaOf(factors, module, weight);
  const stored = floats(tensor);
  const merged = new Float32Array(stored.length);
  const index = (inOut: boolean, i: number, o: number): number => (inOut ? i * outFeatures + o : o * inFeatures + i);
  for (let o = 0; o < outFeatures; o++) {
    for (let i = 0; i < inFeatures; i++) {
      merged[index(readInOut, i, o)] = (stored[index(storedInOut, i, o)] ?? 0) + (delta[o * inFeatures + i] ?? 0);
    }
  }
  const name = graph.uniqueName(`${value}_merged`);
  const dims = readInOut ? [inFeatures, outFeatures] : [outFeatures, inFeatures];
  graph.addInitializer(name, { dtype: 'float32', dims, bytes: new Uint8Array(merged.buffer) });
  for (const { node } of readers) node.setInput(1, name);
}

function deltaOf(factors: LoraModule, module: string, weight: number): Float32Array {
  try {
    return loraDelta({ ...factors, scale: factors.scale * weight });
  } catch (cause) {
    if (!(cause instanceof QuantError)) throw cause;
    throw new CompilerError('compiler/weights', `${module}: ${cause.message}`, { where: module, cause });
  }
}

/** Equal, or one ends in the other: exports drop the wrapper's prefix or add one. */
function isSameModule(path: string, module: string): boolean {
  return path === module || path.endsWith(`.${module}`) || module.endsWith(`.${path}`);
}

function fits(home: Home, factors: LoraModule): boolean {
  return home.inFeatures === factors.inFeatures && home.outFeatures === factors.outFeatures;
}

function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

function list(homes: readonly Home[]): string {
  const shown = homes.slice(0, 4).map((home) => `${home.node.name} [${home.outFeatures}, ${home.inFeatures}]`);
  return shown.join(', ') + (homes.length > 4 ? ` and ${homes.length - 4} more` : '');
}

function homeError(where: string, message: string): CompilerError {
  return new CompilerError('compiler/lora-home', message, { where });
}
