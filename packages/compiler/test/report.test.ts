import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compile } from '@flotilla/compiler';
import { writeModel } from '@flotilla/onnx';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { reportPage } from '../src/report/page.ts';
import { histogramPlot } from '../src/report/plots.ts';
import type { ReportData } from '../src/report/report-data.ts';
import { distribution, reportData } from './report-data.ts';
import { twoProducts } from './small-models.ts';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'report-'));
});
afterAll(() => rm(dir, { recursive: true }));

describe('report.html', () => {
  test('is one file without a request or a script, and the same for the same data', () => {
    const page = reportPage(reportData());
    expect(page).not.toMatch(/https?:|<script|<link|@import|url\(|src=/);
    expect(reportPage(reportData())).toBe(page);
    // Every element that is opened is closed.
    for (const tag of ['section', 'figure', 'svg', 'table', 'details', 'div', 'text', 'rect'])
      expect(page.split(`<${tag}`).length, tag).toBe(page.split(`</${tag}>`).length);
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
  });

  test('says the verdict with its interval, what stays float and why, and what speaks against it', () => {
    const page = reportPage(reportData());
    expect(page).toContain('98.6 % of fp32&#39;s top1 is kept'.replace('&#39;', "'"));
    expect(page).toContain('between 97.0 % and 99.4 % at 95 % confidence');
    expect(page).toContain('<td>its output is a graph output</td><td class="n">2</td>');
    expect(page).toContain('<p class="warn bad">slower than fp32</p>');
  });

  test('draws the Pareto front of a budget: every candidate, the chosen one apart', () => {
    const page = reportPage(reportData());
    expect(page).toContain('of 3 candidates the best one within 3.00 MB');
    const plot = /aria-label="Pareto front">(.*?)<\/svg>/s.exec(page)?.[1] ?? '';
    expect(['green', 'blue', 'grey'].map((colour) => plot.split(`class="${colour}"`).length - 1)).toEqual([1, 1, 1]);
  });

  test('a node that stands out is red, an exact one is not drawn', () => {
    const page = reportPage(reportData());
    expect(page.match(/<circle[^>]*r="3" class="red"/g)).toHaveLength(1);
    expect(page.match(/<circle[^>]*r="3"/g)).toHaveLength(2);
  });

  test('draws the chosen range into the histogram, and what it cuts off in red', () => {
    const plot = histogramPlot({ histogram: [1, 2, 8, 2, 1], min: -5, max: 5, range: { min: -3, max: 3 } });
    expect(plot.match(/class="line amber dash"/g)).toHaveLength(2);
    expect(plot.match(/class="red"/g)).toHaveLength(2);
    expect(plot.match(/class="blue"/g)).toHaveLength(3);
  });

  test('says which weights were not looked at whole', () => {
    expect(reportPage(reportData())).not.toContain('first rows only');
    expect(reportPage({ ...reportData(), sampledBytes: 3e9 })).toContain('Of 3.00 GB of them the first rows only');
  });

  test.each<[string, Partial<ReportData>]>([
    ['no data at all', { activations: [], weights: [], nodes: [], times: null, samples: 0 }],
    ['a tensor of one value', { activations: [{ ...distribution('flat'), min: 3, max: 3, range: null }] }],
    ['hostile names', { nodes: [{ ...reportData().nodes[0], node: '<img src=x onerror=1>"&' } as never] }],
  ])('stands with %s', (_, part) => {
    const page = reportPage({ ...reportData(), ...part });
    expect(page).not.toMatch(/NaN|undefined|Infinity|<img/);
    expect(page.endsWith('</main></body></html>\n')).toBe(true);
  });

  test('compile --report writes it beside the pack, with what was found out about this model', async () => {
    const reportHtml = join(dir, 'report.html');
    const model = join(dir, 'net.onnx');
    await writeModel(twoProducts(), model);
    const options = { weights: 'int4', boards: ['host'], latencySeconds: 0, reportHtml };
    const { analysis } = await compile(model, join(dir, 'out.onnx'), options);
    const page = await readFile(reportHtml, 'utf8');
    for (const title of ['Error by node', 'Activations', 'Weights', 'What stays float, and why', 'Recipe'])
      expect(page).toContain(`<h2>${title}</h2>`);
    const [, int4] = analysis?.foretold ?? [];
    expect(page).toContain(`int4: ${int4?.medianDb.toFixed(1)} dB in the median`);
    expect(page).not.toContain('Time by node'); // latency was not asked for
    await expect(
      compile(model, join(dir, 'out.onnx'), { ...options, reportHtml: join(dir, 'no/such/folder.html') }),
    ).rejects.toMatchObject({ code: 'compiler/output' });
    expect((await readdir(dir)).toSorted()).toEqual(['net.onnx', 'out.onnx', 'report.html']);
  });
});
