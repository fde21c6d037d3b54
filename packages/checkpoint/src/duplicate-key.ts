/**
 * The first key that stands twice in one object, or undefined. `JSON.parse` keeps the last of the two without a word, and
 * other readers the first: a file that two readers understand differently must not pass.
 * @param text JSON that `JSON.parse` has accepted
 */
export function findDuplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // undefined for an array
  const token = /"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?|[{}[\]]/g;
  for (let found = token.exec(text); found; found = token.exec(text)) {
    const [all, quoted, colon] = found;
    if (all === '{') open.push(new Set());
    else if (all === '[') open.push(undefined);
    else if (all === '}' || all === ']') open.pop();
    else if (colon !== undefined && quoted !== undefined) {
      // Two spellings of one name: "a" and "\u0061".
      const key = quoted.includes('\\') ? (JSON.parse(`"${quoted}"`) as string) : quoted;
      const keys = open.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}
