// Swaps a file for a link to elsewhere and back, with no moment in which there is neither; and now and then its folder.
// As fast as it can, until it is killed.
import { existsSync, mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [, , dir] = process.argv;
const path = (...parts) => join(dir, ...parts);
const weights = readFileSync(path('sub', 'w.bin'));
mkdirSync(path('other'));
writeFileSync(path('other', 'w.bin'), readFileSync(path('secret.bin')));
symlinkSync('other', path('folder-link'));
writeSync(1, 'ready\n');
for (let i = 0; existsSync(dir); i++) {
  symlinkSync('../secret.bin', path('next-link'));
  if (i % 2 === 0) writeFileSync(path('next'), weights);
  renameSync(path('next-link'), path('sub', 'w.bin'));
  if (i % 2 === 1) writeFileSync(path('next'), weights);
  renameSync(path('next'), path('sub', 'w.bin'));
  if (i % 10 !== 0) continue;
  renameSync(path('sub'), path('kept'));
  renameSync(path('folder-link'), path('sub'));
  renameSync(path('sub'), path('folder-link'));
  renameSync(path('kept'), path('sub'));
}
