import { CompilerError } from '../errors.ts';
import type { CompileOptions } from './options.ts';

/**
 * What cannot be had together with a way to ship adapters is refused before the work.
 * @throws {CompilerError} `compiler/lora-branch`, `compiler/lora-rebuild`
 */
export function checkLoraMode(out: string, options: CompileOptions): void {
  const { loraMode = 'merge', basePack } = options;
  if (basePack !== undefined && loraMode !== 'rebuild')
    throw rebuildError('--base-pack belongs to --lora-mode rebuild', 'leave it out, or rebuild');
  if (loraMode === 'merge') return;
  if (loraMode !== 'branch' && loraMode !== 'rebuild')
    throw branchError(`--lora-mode is merge, branch or rebuild, not ${loraMode}`);
  const problem = keptApart(out, options);
  if (problem !== undefined) throw loraMode === 'branch' ? branchError(problem) : rebuildError(problem, MERGE);
  if (loraMode === 'rebuild') checkRebuild(options);
}

const MERGE = 'merge the adapters: --lora-mode merge';

/** Why these options leave no room for adapters that are not merged here. */
function keptApart(out: string, { budget = [], layout = 'pack', method, loraCombine }: CompileOptions) {
  if (budget.length > 0)
    return 'a budget searches for the best recipe of one model, not of a base with adapters beside it';
  if (layout !== 'pack' || out.endsWith('.onnx')) return 'only a pack has room for adapters beside its model';
  if (method === 'awq') return 'awq scales the channels that an adapter was trained beside';
  return loraCombine === undefined ? undefined : 'adapters that stay beside the base are not combined';
}

function checkRebuild({ lora = [], basePack, ...options }: CompileOptions): void {
  if (basePack === undefined) {
    if (lora.length > 0) throw rebuildError('on what? --base-pack is missing', 'give the pack that the fleet holds');
    return;
  }
  if (lora.length !== 1) throw rebuildError(`one adapter is merged on the device, not ${lora.length}`, MERGE);
  const { method, block, kvCache = 'fp32', recipe, fixShapes } = options;
  const given = { '--method': method, '--block': block, '--recipe': recipe, '--fix-shape': fixShapes };
  const [own] = Object.entries(given).find(([, value]) => value !== undefined) ?? [];
  if (own !== undefined || kvCache !== 'fp32')
    throw rebuildError(`${own ?? '--kv-cache'} is as the base pack has it`, 'leave it out');
}

function branchError(what: string): CompilerError {
  return new CompilerError('compiler/lora-branch', what, { hint: MERGE });
}

function rebuildError(what: string, hint: string): CompilerError {
  return new CompilerError('compiler/lora-rebuild', what, { hint });
}
