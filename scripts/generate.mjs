// Compiles the .proto schemas into static modules: packages/*/proto/NAME.proto → packages/*/generated/NAME.{js,d.ts}.
// Static code, made at build time: protobufjs must never build code from a schema at run time (CVE-2026-41242).
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import pbjs from 'protobufjs-cli/pbjs.js';
import pbts from 'protobufjs-cli/pbts.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const schemas = [
  { from: 'packages/onnx/proto/onnx.proto', to: 'packages/onnx/generated/onnx' },
  { from: 'packages/protocol/proto/flotilla.proto', to: 'packages/protocol/generated/flotilla' },
];
const without = ['--no-create', '--no-verify', '--no-convert', '--no-delimited', '--no-typeurl', '--no-service'];

const modifiedMs = (path) => statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;

for (const { from, to } of schemas) {
  const source = join(root, from);
  const target = join(root, to);
  if (modifiedMs(`${target}.d.ts`) > modifiedMs(source)) continue;
  mkdirSync(dirname(target), { recursive: true });
  const js = await promisify(pbjs.main)([
    '-t',
    'static-module',
    '-w',
    'es6',
    '--es6',
    '--force-long',
    ...without,
    source,
  ]);
  writeFileSync(`${target}.js`, js);
  const types = await promisify(pbts.main)([`${target}.js`]);
  writeFileSync(`${target}.d.ts`, types.replace('import Long = require("long");', 'import type Long from "long";'));
}
