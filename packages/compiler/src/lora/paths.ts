import type { Node } from '@flotilla/onnx';

/** How well a name of the graph fits a module: the higher the better, 0 not at all. */
export type Likeness = 0 | 1 | 2 | 3 | 4;

/**
 * Module paths that a layer's names point to, the surest first: the node's, the weights', the bias's. Equal weights may
 * share one initializer that has the name of the first. Anonymous names (`onnx::MatMul_903`, `val_12`) give none.
 * @param weights the name that the node reads, then the stored tensor's
 */
export function pathsOf(node: Node, weights: readonly string[], bias: string | undefined): readonly string[] {
  const weight = weights.map((name) => pathOfWeight(name)).find((path) => path !== '') ?? '';
  return [pathOfNode(node), weight, pathOfWeight(bias ?? '', 'bias')].filter((path) => path !== '');
}

/** `/model/layers.0/self_attn/q_proj/MatMul` → `model.layers.0.self_attn.q_proj` */
export function pathOfNode(node: Node): string {
  return node.name.split('/').slice(0, -1).filter(Boolean).join('.') || pathOfScopes(node);
}

/** PyTorch's newer exporter numbers its nodes and notes the modules around each: `['', 'model', 'model.q_proj', 'linear']`. */
function pathOfScopes({ metadata }: Node): string {
  const scopes = [...(metadata.get('pkg.torch.onnx.name_scopes') ?? '').matchAll(/'([^']*)'/g)];
  return scopes.at(-2)?.[1] ?? '';
}

/** `model.layers.0.self_attn.q_proj.weight` → `model.layers.0.self_attn.q_proj`; `…q_proj.MatMul.weight` too. */
function pathOfWeight(name: string, parameter = 'weight'): string {
  const path = new RegExp(`^(.+?)(?:[./]MatMul)?[./_]${parameter}(?:[_.](?:transposed|t))?$`).exec(name)?.[1] ?? '';
  return path.replaceAll('/', '.').replace(/^\./, '');
}

/**
 * Compares a path of the graph with a module's. Exports drop the wrapper's prefix or add one, join parts with underscores,
 * and some call `self_attn` `attn`.
 */
export function likeness(path: string, module: string): Likeness {
  if (path === module) return 4;
  if (endsIn(path, module) || endsIn(module, path)) return 3;
  const joined = module.replaceAll('.', '_');
  const whole = path.replaceAll('.', '_');
  if (!path.includes('.') && (whole === joined || whole.endsWith(`_${joined}`))) return 2;
  const [plainPath, plainModule] = [plain(path), plain(module)];
  const isAlias = plainPath === plainModule || endsIn(plainPath, plainModule) || endsIn(plainModule, plainPath);
  return isAlias && (plainPath !== path || plainModule !== module) ? 1 : 0;
}

function endsIn(path: string, end: string): boolean {
  return path.endsWith(`.${end}`);
}

/** One spelling for the names of attention. */
function plain(path: string): string {
  return path.replaceAll(/(^|\.)(?:self_attn|self_attention|attention|attn)(?:\.self)?(?=\.|$)/g, '$1attn');
}

export function lastPart(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1);
}

/** The path of another call of one module: exporters number the second call of each part. */
export function isOtherCall(path: string, module: string): boolean {
  return path !== module && path.replaceAll(/_\d+(?=\.|$)/g, '') === module.replaceAll(/_\d+(?=\.|$)/g, '');
}
