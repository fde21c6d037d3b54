/** Text as HTML shows it. */
export function escape(text: string | number): string {
  return String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Numbers are marked with a leading `#` in the header and stand right. Cells are escaped. */
export function table(header: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const right = header.map((name) => name.startsWith('#'));
  const cell = (tag: 'td' | 'th', text: string | number, column: number): string =>
    `<${tag}${right[column] ? ' class="n"' : ''}>${escape(text)}</${tag}>`;
  const head = header.map((name, i) => cell('th', name.replace(/^#/, ''), i)).join('');
  const body = rows.map((row) => `<tr>${row.map((text, i) => cell('td', text, i)).join('')}</tr>`).join('\n');
  return `<div class="wide"><table><thead><tr>${head}</tr></thead><tbody>\n${body}\n</tbody></table></div>`;
}

/** A section with its heading; nothing where there is nothing in it. */
export function section(title: string, ...parts: readonly string[]): string {
  const body = parts.filter(Boolean).join('\n');
  return body === '' ? '' : `<section>\n<h2>${escape(title)}</h2>\n${body}\n</section>\n`;
}

export function figure(picture: string, caption: string): string {
  return `<figure>${picture}<figcaption>${caption}</figcaption></figure>`;
}

/** Folded away until a reader opens it. */
export function fold(summary: string, body: string): string {
  return `<details><summary>${escape(summary)}</summary>\n${body}\n</details>`;
}

/** Colour of a series and what it is called. */
export function key(colour: string, name: string): string {
  return `<span class="key ${colour}"></span>${escape(name)}`;
}

/** Decimal units. */
export function bytes(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} GB`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(2)} MB` : `${(count / 1e3).toFixed(1)} kB`;
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function decibels(value: number | null): string {
  return value === null ? 'exact' : value <= -300 ? 'not finite' : value.toFixed(1);
}

/** Four digits, as short as they go. */
export function short(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}
