import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** Module names in `import … from`, `export … from`, `import '…'`, `import('…')` and `require('…')`; comments do not count. */
export function importsOf(source: string): readonly string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  return [
    ...code.matchAll(/(?:(?<!['"])\bfrom|\bimport|\bimport\(|\brequire\(|\brequire\.resolve\()\s*(['"])([^'"\s,]+)\1/g),
  ].map(([, , name = '']) => name);
}

/** The package of a bare import; undefined for relative paths and built-ins. */
export function packageOf(name: string): string | undefined {
  if (name.startsWith('.') || name.startsWith('node:') || name.startsWith('#')) return undefined;
  return name
    .split('/')
    .slice(0, name.startsWith('@') ? 2 : 1)
    .join('/');
}

/** Every TypeScript file below a folder. */
export function sourcesOf(folder: string): readonly { readonly path: string; readonly source: string }[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => ({ path: name, source: readFileSync(join(folder, name), 'utf8') }));
}
