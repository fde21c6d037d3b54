import { type Board, detectHost, listBoards, loadBoard } from '@flotilla/boards';
import type { CommandModule } from 'yargs';
import { type Globals, print } from '../output.ts';
import { bytes, table } from '../text.ts';

const ls: CommandModule<Globals, Globals> = {
  command: 'ls',
  describe: 'List the boards that have a profile',
  builder: (args) => args.example('flotilla boards ls', 'what --board takes by name'),
  async handler(argv) {
    print(argv, { boards: await listBoards() }, ({ boards }) =>
      table(
        ['board', 'class', 'cores', 'RAM', 'cpu'],
        boards.map((b) => [b.name, b.boardClass, b.cpu.cores, bytes(b.ramBytes), b.cpu.model]),
      ),
    );
  },
};

const show: CommandModule<Globals, Globals & { board: string }> = {
  command: 'show <board>',
  describe: 'Show one board by name or file',
  builder: (args) =>
    args
      .positional('board', { type: 'string', demandOption: true, describe: 'Name or YAML file' })
      .example('flotilla boards show raspberrypi-5', 'its CPU, features and memory'),
  async handler(argv) {
    print(argv, await loadBoard(argv.board), boardText);
  },
};

const detect: CommandModule<Globals, Globals> = {
  command: 'detect',
  describe: 'Show what this machine is',
  builder: (args) => args.example('flotilla boards detect', 'what --board host means here'),
  async handler(argv) {
    print(argv, await detectHost(), boardText);
  },
};

export const boards: CommandModule<Globals, Globals> = {
  command: 'boards',
  describe: 'Boards and what their CPUs can do',
  builder: (args) =>
    args
      .command(ls)
      .command(show)
      .command(detect)
      .demandCommand(1, 1, 'which: ls, show or detect?')
      .example('flotilla boards show raspberrypi-5', 'its CPU, features, memory and where the figures come from'),
  handler() {},
};

function boardText(board: Board): string {
  return table(
    ['field', board.name],
    [
      ['title', board.title],
      ['class', board.boardClass],
      ['cpu', `${board.cpu.model}, ${board.cpu.cores} cores`],
      ['features', board.cpu.features.join(' ')],
      ['RAM', bytes(board.ramBytes)],
      ['storage', board.storage],
      ['boot', board.boot],
      ['sources', board.sources.join('\n')],
    ],
  );
}
