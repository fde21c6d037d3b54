/** Text that ends before the first of some strings; what may be the beginning of one is held back until it is known. */
export class StopStrings {
  /** What was let through. */
  text = '';
  found = false;
  private readonly stops: readonly string[];
  private held = '';

  constructor(stops: readonly string[]) {
    this.stops = stops.filter((stop) => stop !== '');
  }

  /** What of the text so far can be told. */
  push(piece: string): string {
    if (this.found) return '';
    const now = this.held + piece;
    const cuts = this.stops.map((stop) => now.indexOf(stop)).filter((at) => at >= 0);
    if (cuts.length > 0) {
      this.found = true;
      this.held = '';
      return this.let(now.slice(0, Math.min(...cuts)));
    }
    const hold = Math.max(0, ...this.stops.map((stop) => overlap(now, stop)));
    this.held = now.slice(now.length - hold);
    return this.let(now.slice(0, now.length - hold));
  }

  /** What was held back: it became no stop string. */
  end(): string {
    const rest = this.held;
    this.held = '';
    return this.let(rest);
  }

  private let(piece: string): string {
    this.text += piece;
    return piece;
  }
}

/** How many characters at the text's end are the beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--)
    if (text.endsWith(stop.slice(0, length))) return length;
  return 0;
}
