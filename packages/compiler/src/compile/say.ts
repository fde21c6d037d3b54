/** Figures as reports and warnings say them. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

export function times(ratio: number): string {
  return `${ratio.toFixed(2)}×`;
}
