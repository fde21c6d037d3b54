// An agent and nothing around it: agent DATA IDENTITY. Under emulation every module costs start-up time.
// It ends with its standard input, so that it never outlives the test that started it.
import { startAgent } from '@flotilla/agent';

const [dataDir = '', identity = ''] = process.argv.slice(2);
const agent = await startAgent({
  dataDir,
  identity,
  measureMs: 1000,
  modelTimeoutMs: 200_000, // an emulated core on a shared machine
  log: (line) => console.log(line),
});
process.stdin.on('end', () => void agent.close()).resume();
await agent.done;
