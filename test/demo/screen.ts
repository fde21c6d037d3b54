/** Where the demo talks to people. Plain lines, so that it reads the same in a terminal, a pipe and a log. */
export class Screen {
  readonly #out: NodeJS.WriteStream;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  heading(text: string): void {
    this.say(`\n${text}`);
  }

  say(text: string): void {
    this.#out.write(`${text}\n`);
  }

  /** Aligned columns: first left, the rest right. */
  table(rows: readonly (readonly string[])[]): void {
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    for (const row of rows) {
      const cells = row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)));
      this.say(`   ${cells.join('  ').trimEnd()}`);
    }
  }
}
