import type { Pass } from './pass.ts';

/** Every pass that a recipe can name. A new pass is a file under passes/ and a line here. */
const passes: readonly Pass[] = [];

export function findPass(name: string): Pass | undefined {
  return passes.find((pass) => pass.name === name);
}

export function passNames(): readonly string[] {
  return passes.map(({ name }) => name);
}
