import { writeData, compileBuild, builds } from './models/builds.ts';
await writeData('/tmp/lab/data', { calibrate: 64, judge: 100, commands: 20 });
for (const b of builds) {
  if (!process.argv.slice(2).includes(b.model + b.weights)) continue;
  let last = ''; let since = performance.now(); let cpu = process.cpuUsage();
  const lap = (step: string) => { const c = process.cpuUsage(cpu); console.log(last.padEnd(24), ((performance.now() - since) / 1000).toFixed(1), 'wall', ((c.user + c.system) / 1e6).toFixed(1), 'own cpu'); last = step; since = performance.now(); cpu = process.cpuUsage(); };
  const r = await compileBuild(b, '/tmp/lab/data', '/tmp/lab/x.pack', { latencySeconds: 0.05, onProgress: ({ step }) => { if (step !== last) lap(step); } });
  lap('end'); console.log(r.verdict, r.seconds);
}
