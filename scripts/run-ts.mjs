// Runs a TypeScript file of this repository: node scripts/run-ts.mjs test/demo/main.ts [argument …]
// Node 20 strips no types, so it is bundled (a few ms) and imported; packages stay outside and are run from dist/.
// With --bundle before the file it only prints the path of the bundle, for another Node to run.
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Each source keeps its own `import.meta.url`: fixtures are found the same way as under Vitest. */
const keepUrls = {
  name: 'keep-urls',
  setup({ onLoad }) {
    onLoad({ filter: /\.ts$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8');
      return { loader: 'ts', contents: source.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href)) };
    });
  },
};

const words = process.argv.slice(2);
const onlyBundle = words[0] === '--bundle';
const [entry, ...rest] = onlyBundle ? words.slice(1) : words;
const folder = join(root, '.cache', 'run');
const name = entry.replaceAll('/', '-').replace(/\.ts$/, '');
const target = join(folder, `${name}.mjs`);
const own = join(folder, `${name}.${process.pid}.mjs`);
await mkdir(folder, { recursive: true });
try {
  await build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    packages: 'external',
    platform: 'node',
    target: 'node20',
    format: 'esm',
    sourcemap: 'inline',
    outfile: own,
    plugins: [keepUrls],
    logLevel: 'error',
  });
  await rename(own, target);
} finally {
  await rm(own, { force: true });
}
if (onlyBundle) {
  console.log(target);
} else {
  process.argv.splice(1, process.argv.length - 1, target, ...rest);
  process.setSourceMapsEnabled(true);
  await import(pathToFileURL(target).href);
}
