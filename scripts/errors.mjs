// Writes docs/errors.md from the code unions in packages/*/src/errors.ts: `node scripts/errors.mjs`; with --check it only compares.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const target = join(root, 'docs', 'errors.md');

/** The literals of `export type …ErrorCode = …;`, each with the comment before it. */
function codesOf(source) {
  const union = /export type \w+ErrorCode =([\s\S]*?);\s*\n(?=\n|\/|export|$)/.exec(source)?.[1] ?? '';
  return [...union.matchAll(/(?:\/\*\*?((?:(?!\*\/)[\s\S])*)\*\/\s*)?(?:\|\s*)?'([a-z0-9-]+\/[a-z0-9-]+)'/g)].map(
    ([, comment, code]) => ({ code, text: tidy(comment ?? '') }),
  );
}

function tidy(comment) {
  const text = comment
    .replace(/^\s*\* ?/gm, ' ')
    .replace(/\s+/g, ' ')
    .trim()
    .replace(/^doc: */, '')
    .replace(/\.$/, '');
  return text
    .replace(/^[a-z]+(?=[ ,;])/, (word) => word.charAt(0).toUpperCase() + word.slice(1))
    .replaceAll('|', '\\|');
}

function page() {
  const lines = [
    '# Errors',
    '',
    'Every failure has a code. The command line prints `error code: what, where; how to mend` and, with `--json`, the',
    'object `{"error":{"code","message","where","hint"}}`. Codes are never renamed. This page is written by',
    '`node scripts/errors.mjs` from the packages’ `errors.ts`.',
  ];
  const undocumented = [];
  for (const room of readdirSync(join(root, 'packages')).sort()) {
    const codes = codesOf(readFileSync(join(root, 'packages', room, 'src', 'errors.ts'), 'utf8'));
    lines.push('', `## ${room}`, '', '| code | cause; what to do |', '| --- | --- |');
    for (const { code, text } of codes) {
      lines.push(`| \`${code}\` | ${text} |`);
      if (text === '') undocumented.push(code);
    }
  }
  return { text: `${lines.join('\n')}\n`, undocumented };
}

const { text, undocumented } = page();
if (undocumented.length > 0) {
  console.error(`no comment says the cause of: ${undocumented.join(', ')}`);
  process.exitCode = 1;
}
if (process.argv.includes('--check')) {
  let written = '';
  try {
    written = readFileSync(target, 'utf8');
  } catch {
    // Not there: not equal.
  }
  if (written !== text) {
    console.error('docs/errors.md is not what the code says: node scripts/errors.mjs');
    process.exitCode = 1;
  }
} else {
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, text);
}
