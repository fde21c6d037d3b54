// An agent and nothing around it: node agent.mjs DATA IDENTITY. Under emulation every module costs start-up time.
import { startAgent } from '@flotilla/agent';

const [dataDir, identity] = process.argv.slice(2);
const agent = await startAgent({ dataDir, identity, measureMs: 1000, log: (line) => console.log(line) });
process.once('SIGTERM', () => void agent.close());
await agent.done;
