// Lowers a pack for a board, runs it on its golden inputs, and prints what was chosen and what ran: node kernels.mjs PACK BOARD
import { openRuntime } from '@flotilla/runtime';

const [pack, board] = process.argv.slice(2);
const runtime = await openRuntime(pack, { board, threads: 1, isolate: false });
console.log(Object.keys(runtime));
