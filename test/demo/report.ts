import type { DemoResult, DeviceResult, ModelResult, TimelineEntry } from './result.ts';

/** One self-contained page: sizes, accuracy, latency, rollout timeline. No script, no outside resource. */
export function reportPage(result: DemoResult, timeline: readonly TimelineEntry[], machine: string): string {
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Flotilla demo</title><style>${STYLE}</style></head>
<body><main>
<h1>Flotilla demo</h1>
<p class="machine">${escape(machine)} · ${result.seconds.toFixed(0)} s</p>
<h2>Models</h2>${modelTable(result.models)}
<div class="pair"><figure>${sizeBars(result.models)}<figcaption>File size, MB: fp32 grey, quantized blue</figcaption></figure>
<figure>${keptBars(result.models)}<figcaption>Score kept of fp32 on evaluation data; line: 97 %</figcaption></figure></div>
<h2>Fleet</h2>${fleetTable(result.fleet)}
<figure>${latencyPlot(result.fleet)}<figcaption>Latency per device and model, ms: bar to p50, whiskers p90 and p95</figcaption></figure>
<p>On <b>${escape(result.command.device)}</b>: <code>${escape(result.command.prompt)}</code> → <code>${escape(result.command.answer)}</code></p>
<h2>Releases that the canary refused</h2>
<table><tr><th>release<th>reason<th class="n">devices tried<th class="n">devices broken</tr>${result.badReleases.map((bad) => `<tr><td>${escape(bad.name)}<td>${escape(bad.reason)}<td class="n">${bad.devicesTried}<td class="n">${bad.devicesBroken}</tr>`).join('')}</table>
<h2>Rollouts</h2><figure>${timelinePlot(timeline)}<figcaption>Seconds; one row per rollout and device. ${legend()}</figcaption></figure>
</main></body></html>
`;
}

const STYLE = `
:root{color-scheme:light dark;--ink:#1c2733;--soft:#6b7785;--line:#d9dee4;--page:#fff;--blue:#2f6fde;--grey:#a9b4c0;--green:#2c9a62;--red:#cf3f3f;--amber:#d9932b}
@media (prefers-color-scheme:dark){:root{--ink:#e4e9ee;--soft:#98a4b1;--line:#34404c;--page:#151b21}}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,sans-serif}main{max-width:960px;margin:0 auto;padding:2rem 1.2rem}
h1{font-size:1.6rem;margin:0}h2{font-size:1.1rem;margin:2.2rem 0 .6rem}.machine{color:var(--soft);margin:.2rem 0}
table{border-collapse:collapse;width:100%}th{font-weight:600;text-align:left;color:var(--soft)}th,td{padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}.n{text-align:right;font-variant-numeric:tabular-nums}
figure{margin:1rem 0}figcaption{color:var(--soft);font-size:.85rem}.pair{display:grid;grid-template-columns:1fr 1fr;gap:1.5rem}svg{width:100%;height:auto}text{fill:var(--ink);font:12px system-ui,sans-serif}.soft{fill:var(--soft)}
.key{display:inline-block;width:.7em;height:.7em;margin:0 .25em 0 .8em;border-radius:2px}code{font-size:.9em}`;

function modelTable(models: readonly ModelResult[]): string {
  const rows = models.map(
    (m) =>
      `<tr><td>${escape(title(m))}<td class="n">${mb(m.fp32Bytes)}<td class="n">${mb(m.modelBytes)}<td class="n">${percent(m.ratio)}<td class="n">${percent(m.fp32)}<td class="n">${percent(m.quantized)}<td class="n">${percent(m.kept)}<td class="n">${(m.fp32P50Us / 1000).toFixed(2)}<td class="n">${(m.p50Us / 1000).toFixed(2)}<td class="n">${m.speedup.toFixed(2)}×</tr>`,
  );
  return `<table><tr><th>model<th class="n">fp32 MB<th class="n">MB<th class="n">ratio<th class="n">fp32 score<th class="n">score<th class="n">kept<th class="n">fp32 ms<th class="n">ms<th class="n">speed</tr>${rows.join('')}</table>`;
}

function fleetTable(fleet: readonly DeviceResult[]): string {
  const rows = fleet.map(
    (d) =>
      `<tr><td>${escape(d.device)}<td>${escape(d.board)}<td>${escape(d.release)}<td class="n">${ms(d.p50Us)}<td class="n">${ms(d.p90Us)}<td class="n">${ms(d.p95Us)}<td class="n">${ms(d.p99Us)}<td class="n">${d.throughputPerS.toFixed(1)}<td class="n">${mb(d.peakRssBytes)}</tr>`,
  );
  return `<table><tr><th>device<th>board<th>release<th class="n">p50 ms<th class="n">p90<th class="n">p95<th class="n">p99<th class="n">runs/s<th class="n">peak RSS MB</tr>${rows.join('')}</table>`;
}

const WIDTH = 460;
const ROW = 40;
const LABEL = 165;

function sizeBars(models: readonly ModelResult[]): string {
  const most = Math.max(...models.map((m) => m.fp32Bytes), 1);
  const bars = models.map((m, i) => {
    const y = i * ROW;
    return `<text x="0" y="${y + 19}">${escape(title(m))}</text>${bar(y + 4, m.fp32Bytes / most, 'grey', mb(m.fp32Bytes))}${bar(y + 18, m.modelBytes / most, 'blue', mb(m.modelBytes))}`;
  });
  return svg(WIDTH, models.length * ROW, bars.join(''));
}

function keptBars(models: readonly ModelResult[]): string {
  const bars = models.map(
    (m, i) =>
      `<text x="0" y="${i * ROW + 19}">${escape(title(m))}</text>${bar(i * ROW + 8, m.kept, m.kept >= 0.97 ? 'green' : 'red', percent(m.kept))}`,
  );
  const floor = LABEL + 0.97 * (WIDTH - LABEL - 60);
  return svg(
    WIDTH,
    models.length * ROW,
    `${bars.join('')}<line x1="${floor}" x2="${floor}" y1="0" y2="${models.length * ROW}" stroke="var(--soft)" stroke-dasharray="3 3"/>`,
  );
}

function bar(y: number, share: number, colour: string, label: string): string {
  const width = Math.max(1, share * (WIDTH - LABEL - 60));
  return `<rect x="${LABEL}" y="${y}" width="${width.toFixed(1)}" height="12" rx="2" fill="var(--${colour})"/><text class="soft" x="${(LABEL + width + 5).toFixed(1)}" y="${y + 10}">${label}</text>`;
}

function latencyPlot(fleet: readonly DeviceResult[]): string {
  const most = Math.max(...fleet.map((d) => d.p95Us ?? d.p90Us ?? d.p50Us ?? 0), 1);
  const width = 900;
  const label = 300;
  const x = (us: number) => label + (us / most) * (width - label - 80);
  const rows = fleet.map((d, i) => {
    const y = i * 26;
    const p50 = d.p50Us ?? 0;
    const whisker = (us: number | null) =>
      us === null
        ? ''
        : `<line x1="${x(us)}" x2="${x(us)}" y1="${y + 4}" y2="${y + 20}" stroke="var(--amber)" stroke-width="2"/>`;
    const far = d.p95Us ?? d.p90Us;
    const line =
      far === null ? '' : `<line x1="${x(p50)}" x2="${x(far)}" y1="${y + 12}" y2="${y + 12}" stroke="var(--amber)"/>`;
    return `<text x="0" y="${y + 16}">${escape(`${d.device} · ${d.release}`)}</text><rect x="${label}" y="${y + 5}" width="${x(p50) - label}" height="14" rx="2" fill="var(--blue)"/>${line}${whisker(d.p90Us)}${whisker(d.p95Us)}<text class="soft" x="${x(far ?? p50) + 6}" y="${y + 16}">${ms(d.p50Us)}</text>`;
  });
  return svg(width, fleet.length * 26, rows.join(''));
}

const STATE_COLOURS: { readonly [state: string]: string } = {
  fetching: '#9cc3f5',
  downloading: '#5b9aec',
  verifying: '#2f6fde',
  installing: '#7a5bd6',
  testing: '#b05bd6',
  measuring: '#d65bb4',
  switching: '#d9932b',
  trial: '#e6c14b',
  committed: '#2c9a62',
  failed: '#cf3f3f',
  'rolled-back': '#8f1f1f',
};

function timelinePlot(timeline: readonly TimelineEntry[]): string {
  const rows = [...new Set(timeline.map((e) => `${e.rollout} · ${e.device}`))];
  const start = Math.min(...timeline.map((e) => e.atMs));
  const end = Math.max(...timeline.map((e) => e.atMs), start + 1);
  const width = 900;
  const label = 300;
  const x = (atMs: number) => label + ((atMs - start) / (end - start)) * (width - label - 10);
  const drawn = rows.map((row, i) => {
    const entries = timeline.filter((e) => `${e.rollout} · ${e.device}` === row);
    const spans = entries.map((e, k) => {
      const until = entries[k + 1]?.atMs ?? Math.min(end, e.atMs + (end - start) / 60);
      return `<rect x="${x(e.atMs).toFixed(1)}" y="${i * 22 + 3}" width="${Math.max(2, x(until) - x(e.atMs)).toFixed(1)}" height="14" fill="${STATE_COLOURS[e.state] ?? '#a9b4c0'}"><title>${escape(e.state)} at ${((e.atMs - start) / 1000).toFixed(1)} s</title></rect>`;
    });
    return `<text x="0" y="${i * 22 + 14}">${escape(row)}</text>${spans.join('')}`;
  });
  const seconds = `<text class="soft" x="${label}" y="${rows.length * 22 + 14}">0</text><text class="soft" x="${width - 40}" y="${rows.length * 22 + 14}">${((end - start) / 1000).toFixed(0)} s</text>`;
  return svg(width, rows.length * 22 + 20, drawn.join('') + seconds);
}

function legend(): string {
  return Object.entries(STATE_COLOURS)
    .map(([state, colour]) => `<span class="key" style="background:${colour}"></span>${state}`)
    .join('');
}

function svg(width: number, height: number, body: string): string {
  return `<svg viewBox="0 0 ${width} ${Math.max(height, 1)}" role="img">${body}</svg>`;
}

function title(m: ModelResult): string {
  return `${m.name} ${m.weights}${m.adapter ? ' + LoRA' : ''}`;
}

function mb(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function ms(us: number | null): string {
  return us === null ? '–' : (us / 1000).toFixed(2);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}
