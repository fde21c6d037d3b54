// Opens a model in a process of its own, so that its memory can be measured. Runs on what was built.
import { openModel } from '../dist/index.js';

const [, , path] = process.argv;
const start = performance.now();
const model = await openModel(path);
const ms = performance.now() - start;
const rssBytes = process.resourceUsage().maxRSS * 1024;
const last = [...model.graph.initializers.values()].at(-1);
process.stdout.write(
  JSON.stringify({ ms, rssBytes, initializers: model.graph.initializers.size, lastBytes: last.byteLength }),
);
