import type { LoraAdapter, ModelFolder } from '@flotilla/checkpoint';
import { CompilerError } from '../errors.ts';

/**
 * Refuses an adapter that names another base than the model's own configuration does. Only the last part of the names
 * counts: bases are moved and mirrored, and a 4-bit copy's name says so at its end.
 * @throws {CompilerError} `compiler/lora-base`
 */
export function checkBaseModel({ dir, config }: LoraAdapter, folder: Pick<ModelFolder, 'config'>): void {
  const own = folder.config?.['_name_or_path'];
  const { baseModel } = config;
  if (typeof own !== 'string' || own === '' || baseModel === undefined || baseModel === '') return;
  if (bareName(own) === bareName(baseModel)) return;
  const message = `${dir} was trained for ${baseModel}, and this model is ${own}`;
  const hint = 'compile that base, or say --lora-any-base';
  throw new CompilerError('compiler/lora-base', message, { where: dir, hint });
}

/** What the user should know where the model does not say what it is, and only its file's name could tell. */
export function baseWarning(
  { dir, config: { baseModel = '' } }: LoraAdapter,
  { config, name }: Pick<ModelFolder, 'config' | 'name'>,
): string | undefined {
  const own = config?.['_name_or_path'];
  if ((typeof own === 'string' && own !== '') || baseModel === '' || bareName(baseModel) === bareName(name))
    return undefined;
  return `${dir} was trained for ${baseModel}; ${name} does not say what it is (no _name_or_path in config.json), so only names of layers and shapes were compared`;
}

function bareName(name: string): string {
  const last = name.split('/').findLast((part) => part !== '') ?? '';
  return last.toLowerCase().replace(/(?:-unsloth)?-bnb-4bit$/, '');
}
