/** Node runs built files: from `src` in a test as from `dist`. */
export const KERNEL_WORKER = new URL('../dist/kernel-worker.js', import.meta.url);
