// Builds packages/*/dist: declarations by tsc, which checks the types, and code by esbuild, one file a package with a
// second for each process or thread that it starts. Hundreds of small modules take a board seconds to load.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const packages = join(root, 'packages');

/** What a package may be entered by: as a library, as a command, as a process or thread of its own. */
const ENTRIES = ['index', 'main', 'session-process', 'session-guard', 'kernel-worker'];

const { status } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b'], {
  cwd: root,
  stdio: 'inherit',
});
if (status !== 0) process.exit(status ?? 1);
await Promise.all(readdirSync(packages).map((name) => bundle(join(packages, name))));

async function bundle(folder) {
  const outdir = join(folder, 'dist');
  const { metafile } = await build({
    entryPoints: ENTRIES.map((name) => join(folder, 'src', `${name}.ts`)).filter((path) => existsSync(path)),
    outdir,
    bundle: true,
    splitting: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    sourcemap: true,
    metafile: true,
    logLevel: 'error',
  });
  // What an earlier build left would still be found, and counted as code.
  const made = new Set(Object.keys(metafile.outputs).map((path) => join(process.cwd(), path)));
  for (const name of readdirSync(outdir, { recursive: true }))
    if (/\.js(?:\.map)?$/.test(name) && !made.has(join(outdir, name))) rmSync(join(outdir, name));
}
