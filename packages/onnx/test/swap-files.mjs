// Swaps a file and its folder for links to elsewhere and back, as fast as it can, until it is killed.
import { existsSync, mkdirSync, renameSync, symlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [, , dir] = process.argv;
const path = (...parts) => join(dir, ...parts);
symlinkSync('../secret.bin', path('link'));
mkdirSync(path('other'));
symlinkSync('../secret.bin', path('other', 'w.bin'));
symlinkSync('other', path('folder-link'));
writeSync(1, 'ready\n');
while (existsSync(dir)) {
  // The last part.
  renameSync(path('sub', 'w.bin'), path('kept.bin'));
  renameSync(path('link'), path('sub', 'w.bin'));
  renameSync(path('sub', 'w.bin'), path('link'));
  renameSync(path('kept.bin'), path('sub', 'w.bin'));
  // Its folder.
  renameSync(path('sub'), path('kept'));
  renameSync(path('folder-link'), path('sub'));
  renameSync(path('sub'), path('folder-link'));
  renameSync(path('kept'), path('sub'));
  for (let i = 0; i < 2000; i++) existsSync('/');
}
