import { describeError, EXIT, failureLine } from './failure.ts';

/**
 * Whoever reads no further (`| head`) has what he wants: the command ends without a word. Output that cannot be
 * written for any other reason, a full disk say, is told in one line. Lines for people must not end an agent.
 */
export function endWhereOutputEnds(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`${failureLine(describeError(error))}\n`);
    process.exit(EXIT.surroundings);
  });
  process.stderr.on('error', () => undefined);
}
