/** Pieces asked for and not yet stored: 1 MiB on its way keeps a link busy and any broker's queue short. */
export const PIECES_IN_FLIGHT = 4;
/** Ask again for pieces that did not come. */
export const RETRY_MS = 4000;
/** Starts of the agent within one step of an update before the release is held to be what restarts the device. */
export const BOOTS_PER_STEP = 4;
/** Losses of a committed model in a row before the agent goes back to the release before it. */
export const LOSSES = 3;
export const RELOAD_MS = [500, 2000, 10_000] as const;
/** Golden check of a committed model. Costs one run of the golden vectors. */
export const CHECK_MS = 60_000;
/** Where a desired release gives no deadline. */
export const DEADLINE_MS = 600_000;
/** Longest manifest. */
export const MANIFEST_BYTES = 1 << 20;
/** Longest file of factors that a model is rebuilt of: the agent's own process reads it. */
export const FACTORS_BYTES = 64 << 20;
/** Progress reports of one download. */
export const PROGRESS_REPORTS = 10;
