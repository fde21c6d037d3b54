import type { TelemetryView } from '@flotilla/controller';
import type { DemoPack } from './compile-models.ts';
import type { Fleet } from './fleet.ts';
import type { CommandResult, DeviceResult } from './result.ts';
import type { Screen } from './screen.ts';

/** Enough runs for a p95, which needs 130: a line takes some ten milliseconds, a token one or two. */
const BENCH_MS: { readonly [model: string]: number } = { labels: 1400, commands: 300 };
const TELEMETRY_WAIT_MS = 10_000;

/** Lets every device run each model for a few seconds; what the controller received over MQTT is the result. */
export async function measureFleet(fleet: Fleet, packs: readonly DemoPack[], screen: Screen): Promise<DeviceResult[]> {
  const results: DeviceResult[] = [];
  // One device at a time: three boards share this machine's cores, and would measure each other.
  for (const { device, board } of fleet.devices)
    for (const { name } of packs) {
      await fleet.client.call(device, { name, benchMs: BENCH_MS[name] ?? 1000 });
      results.push(resultOf(device, board, await telemetryOf(fleet, device, name)));
    }
  screen.table([
    ['device', 'board', 'release', 'p50 ms', 'p90', 'p95', 'p99', 'runs/s', 'peak RSS MB'],
    ...results.map((r) => [
      r.device,
      r.board,
      r.release,
      ms(r.p50Us),
      ms(r.p90Us),
      ms(r.p95Us),
      ms(r.p99Us),
      r.throughputPerS.toFixed(1),
      (r.peakRssBytes / 1e6).toFixed(0),
    ]),
  ]);
  return results;
}

/** One spoken-style command to a device; its answer must be the JSON that the command means. */
export async function askDevice(fleet: Fleet, screen: Screen): Promise<CommandResult> {
  const device = fleet.devices[0]?.device ?? '';
  const prompt = 'kindly switch off the space heater in the attic =>';
  const { text, tokensPerSecond } = await fleet.client.call(device, { name: 'commands', prompt });
  const answer = text.trim();
  screen.say(`   ${device}: "${prompt}" ${answer}  (${tokensPerSecond.toFixed(0)} tokens/s)`);
  const meant = JSON.stringify({ intent: 'off', device: 'heater', room: 'attic' });
  if (answer !== meant) throw new Error(`${device} answered ${answer}, not ${meant}`);
  return { device, prompt, answer };
}

async function telemetryOf(fleet: Fleet, device: string, name: string): Promise<TelemetryView> {
  for (const until = Date.now() + TELEMETRY_WAIT_MS; Date.now() < until; ) {
    const found = (await fleet.client.telemetry(device)).find((view) => view.name === name);
    if (found !== undefined && found.latency.count > 0) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`no telemetry of ${name} from ${device} reached the controller`);
}

function resultOf(device: string, board: string, view: TelemetryView): DeviceResult {
  const { p50Us, p90Us, p95Us, p99Us } = view.latency;
  const { digest, throughputPerS, peakRssBytes } = view;
  return {
    device,
    board,
    release: `${view.name}@${view.version ?? '?'}`,
    digest,
    p50Us,
    p90Us,
    p95Us,
    p99Us,
    throughputPerS,
    peakRssBytes,
  };
}

function ms(us: number | null): string {
  return us === null ? '–' : (us / 1000).toFixed(2);
}
