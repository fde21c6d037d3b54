/**
 * The first key that stands twice in one object, or undefined. `JSON.parse` keeps the last of the two without a word, and
 * other readers the first: a file that two readers understand differently must not pass.
 * @param text JSON that `JSON.parse` has accepted
 */
export function findDuplicateKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = []; // undefined for an array
  const token = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]/g;
  let last: string | undefined;
  for (const [found] of text.matchAll(token)) {
    if (found === '{') open.push(new Set());
    else if (found === '[') open.push(undefined);
    else if (found === '}' || found === ']') open.pop();
    else if (found === ':' && last !== undefined) {
      const keys = open.at(-1);
      const key = JSON.parse(last) as string; // two spellings of one name: "a" and "\u0061"
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
    last = found;
  }
  return undefined;
}
