// An agent for the fault tests: node agent-process.mjs IDENTITY DATA [KILL_AT]. Ends itself with SIGKILL before it
// reports the state KILL_AT, or before it stores its KILL_AT-th piece.
import { startAgent } from '@flotilla/agent';

const [identity, dataDir, killAt] = process.argv.slice(2);
let stored = 0;
try {
  const agent = await startAgent({
    identity,
    dataDir,
    measureMs: 100,
    log: (line) => console.log(line),
    before(effect) {
      const isState = effect.kind === 'report' && effect.state === killAt;
      const isPiece = effect.kind === 'store' && String(++stored) === killAt;
      if (isState || isPiece) process.kill(process.pid, 'SIGKILL');
    },
  });
  console.log('started');
  process.once('SIGTERM', () => void agent.close());
  await agent.done;
} catch (error) {
  console.error(`error ${error.code}: ${error.message}`);
  process.exitCode = 5;
}
