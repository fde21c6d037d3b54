import type { Choice } from './sensitivity.ts';

/** A format for each unit, and what it should come to if noise adds up. */
export interface Plan {
  /** One a unit: an index into its choices. */
  readonly picks: readonly number[];
  readonly bytes: number;
  readonly noise: number;
}

/**
 * The plans that no other beats at any price of a byte: each unit takes what is least of noise + λ · bytes, for λ from dear
 * to cheap (Shoham and Gersho, IEEE TASSP 36 (1988): bit allocation by Lagrange multipliers). Smallest first.
 */
export function sweep(table: readonly (readonly Choice[])[]): readonly Plan[] {
  const slopes = new Set<number>([0]);
  for (const choices of table) {
    for (const a of choices) {
      for (const b of choices)
        if (a.bytes < b.bytes && a.noise > b.noise) slopes.add((a.noise - b.noise) / (b.bytes - a.bytes));
    }
  }
  const plans = new Map<string, Plan>();
  for (const slope of [...slopes].toSorted((a, b) => b - a)) {
    const picks = table.map((choices) => cheapest(choices, slope * (1 + 1e-9)));
    plans.set(picks.join(), planOf(table, picks));
  }
  return [...plans.values()].toSorted((a, b) => a.bytes - b.bytes);
}

/** The best plan of at most so many bytes: the sweep's, with what room is left spent where it saves most noise a byte. */
export function fill(table: readonly (readonly Choice[])[], plans: readonly Plan[], bytes: number): Plan | undefined {
  let plan = plans.findLast((candidate) => candidate.bytes <= bytes);
  for (;;) {
    const better = plan && upgrade(table, plan, bytes);
    if (!better) return plan;
    plan = better;
  }
}

function upgrade(table: readonly (readonly Choice[])[], plan: Plan, bytes: number): Plan | undefined {
  let best: { readonly plan: Plan; readonly gain: number } | undefined;
  for (const [unit, choices] of table.entries()) {
    for (const pick of choices.keys()) {
      const other = planOf(table, plan.picks.with(unit, pick));
      if (other.bytes > bytes || other.noise >= plan.noise) continue;
      const gain = (plan.noise - other.noise) / Math.max(1, other.bytes - plan.bytes);
      if (!best || gain > best.gain) best = { plan: other, gain };
    }
  }
  return best?.plan;
}

function cheapest(choices: readonly Choice[], slope: number): number {
  const cost = ({ noise, bytes }: Choice): number => noise + slope * bytes;
  return choices.reduce((best, choice, i) => (cost(choice) < cost(choices[best] as Choice) ? i : best), 0);
}

function planOf(table: readonly (readonly Choice[])[], picks: readonly number[]): Plan {
  const whole = table[0]?.[0]?.bytes ?? 0;
  let [bytes, noise] = [whole, 0];
  for (const [unit, pick] of picks.entries()) {
    const choice = table[unit]?.[pick];
    bytes += (choice?.bytes ?? whole) - whole;
    noise += choice?.noise ?? 0;
  }
  return { picks, bytes, noise };
}
