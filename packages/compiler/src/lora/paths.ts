import type { Node } from '@flotilla/onnx';

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
 * How well a path of the graph fits a module's: 4 is equal, 0 not at all. Exports drop the wrapper's prefix or add one (the
 * shorter it is, the better the fit), join parts with underscores, and some call `self_attn` `attn`.
 */
export function likeness(path: string, module: string): number {
  if (path === '' || path === module) return path === '' ? 0 : 4;
  const prefix = prefixParts(path, module);
  if (prefix !== undefined) return 3 - Math.min(prefix, 9) / 10;
  const joined = module.replaceAll('.', '_');
  const whole = path.replaceAll('.', '_');
  if (!path.includes('.') && (whole === joined || whole.endsWith(`_${joined}`))) return 2;
  const [plainPath, plainModule] = [plain(path), plain(module)];
  if (plainPath === path && plainModule === module) return 0;
  if (plainPath === plainModule) return 1;
  const plainPrefix = prefixParts(plainPath, plainModule);
  return plainPrefix === undefined ? 0 : 1 - Math.min(plainPrefix, 9) / 10;
}

/** How many parts one of them has before the other. */
function prefixParts(path: string, module: string): number | undefined {
  const [long, short] = path.length > module.length ? [path, module] : [module, path];
  return long.endsWith(`.${short}`) ? long.slice(0, -short.length).split('.').length - 1 : undefined;
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
