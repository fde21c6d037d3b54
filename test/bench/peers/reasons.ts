/** Why a peer's result is not equalled, by `model tool method`: written by hand once the cause is known. */
export const reasons: ReadonlyMap<string, string> = new Map([]);
