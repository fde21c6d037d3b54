#!/usr/bin/env node
import { runCli } from './cli.ts';
import { endWhereOutputEnds } from './output-end.ts';

endWhereOutputEnds();
process.exitCode = await runCli(process.argv.slice(2));
