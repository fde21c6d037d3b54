import assert from "node:assert/strict";
import { spawnSession, syntheticFeeds } from "@flotilla/runtime";
const session = await spawnSession("test/fixtures/models/wordnet-llama-4m/model.onnx", {
  threads: 1,
  timeoutMs: 3e4,
  // for each run; `loadTimeoutMs` for starting and loading
  memoryCapBytes: 1e9
});
const sizes = { sequence_length: 4, total_sequence_length: 4, past_sequence_length: 0 };
const feeds = syntheticFeeds(session.inputs, sizes);
const { logits } = await session.run(feeds, { fetches: ["logits"] });
assert.deepEqual(logits?.dims, [1, 4, 2048]);
const { latency } = await session.measure([feeds], { seconds: 0.5 });
assert.ok((latency.summary().p50Us ?? 0) > 0);
await session.close();
