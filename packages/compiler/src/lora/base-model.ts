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

function bareName(name: string): string {
  const last = name.split('/').findLast((part) => part !== '') ?? '';
  return last.toLowerCase().replace(/(?:-unsloth)?-bnb-4bit$/, '');
}
