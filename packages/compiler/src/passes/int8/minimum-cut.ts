/**
 * A network of named vertices with capacities. Small: a vertex is a layer of a model.
 * @see Edmonds and Karp, "Theoretical Improvements in Algorithmic Efficiency for Network Flow Problems" (1972)
 */
export class MinimumCut {
  private readonly left = new Map<string, Map<string, number>>();
  private largest = 0;

  /** Adds to the capacity from one vertex to another. */
  add(from: string, to: string, capacity: number): void {
    if (from === to || !(capacity > 0)) return;
    this.grow(from, to, capacity);
    this.grow(to, from, 0);
    this.largest = Math.max(this.largest, capacity);
  }

  /** What leads into a vertex and is not used up. */
  into(vertex: string): number {
    return [...this.left.values()].reduce((sum, to) => sum + (to.get(vertex) ?? 0), 0);
  }

  /** The vertices on the source's side of a minimum cut: of several such cuts, the one nearest the source. Uses the network up. */
  reachable(source: string, sink: string): ReadonlySet<string> {
    for (;;) {
      const came = this.search(source, sink);
      if (!came.has(sink)) return new Set(came.keys());
      const path: [string, string][] = [];
      for (let at = sink; at !== source; at = came.get(at) ?? source) path.push([came.get(at) ?? source, at]);
      const flow = Math.min(...path.map(([from, to]) => this.capacity(from, to)));
      for (const [from, to] of path) {
        this.grow(from, to, -flow);
        this.grow(to, from, flow);
      }
    }
  }

  /** Breadth first: each vertex that can be reached, and where from. */
  private search(source: string, sink: string): ReadonlyMap<string, string> {
    // What rounding leaves of a capacity is none.
    const least = this.largest * 1e-12;
    const came = new Map([[source, source]]);
    for (const at of came.keys()) {
      if (at === sink) break;
      for (const [to, capacity] of this.left.get(at) ?? []) if (capacity > least && !came.has(to)) came.set(to, at);
    }
    return came;
  }

  private capacity(from: string, to: string): number {
    return this.left.get(from)?.get(to) ?? 0;
  }

  private grow(from: string, to: string, by: number): void {
    const edges = this.left.get(from) ?? new Map<string, number>();
    this.left.set(from, edges.set(to, (edges.get(to) ?? 0) + by));
  }
}
