import { writeSync } from 'node:fs';
import { workerData } from 'node:worker_threads';
import { MEMORY_MARK } from './messages.ts';

// A thread beside the model's: while native code runs, the main thread hears neither its parent's death nor a timer.
const parent = process.ppid;
const cap: unknown = workerData;

setInterval(() => {
  if (process.ppid !== parent) end();
  const rss = process.memoryUsage.rss();
  if (typeof cap !== 'number' || rss <= cap) return;
  writeSync(2, `${MEMORY_MARK} ${rss}\n`);
  end();
}, 20);

function end(): void {
  process.kill(process.pid, 'SIGKILL');
}
