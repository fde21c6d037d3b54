// The slow path of scripts/setup: install what the lockfile says, generate, build, stamp. One at a time per checkout.
import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  linkSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const modules = join(root, 'node_modules');
const cache = join(root, '.cache');
const log = join(cache, 'setup.log');

class SetupError extends Error {
  constructor(code, message) {
    super(`error setup/${code}: ${message}`);
  }
}

try {
  setUp();
} catch (error) {
  console.error(error instanceof SetupError ? error.message : explain(`${error.code ?? ''} ${error.message}`).message);
  process.exitCode = 5;
}

function setUp() {
  mkdirSync(cache, { recursive: true });
  const release = lock(join(cache, 'setup.lock'));
  const stamp = join(cache, `stamp.${process.pid}`);
  try {
    // Made before the work: what is edited meanwhile is newer than the stamp.
    writeFileSync(stamp, '');
    install();
    step('generated code', [process.execPath, join(root, 'scripts/generate.mjs')]);
    step('build', [process.execPath, join(root, 'scripts/build.mjs')]);
    renameSync(stamp, join(modules, '.flotilla-stamp'));
  } finally {
    rmSync(stamp, { force: true });
    release();
  }
}

function install() {
  const wanted = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml']
    .map((file) => read(join(root, file)))
    .join('\n');
  const installed = join(modules, '.flotilla-installed');
  if (read(installed) === wanted) return;
  console.error('flotilla: installing packages (about a minute the first time)');
  // What the old packages' database made, the new ones' may not read.
  rmSync(join(cache, 'database-template'), { recursive: true, force: true });
  step('packages', [...pnpm(), 'install', '--frozen-lockfile', '--prefer-offline'], installEnvironment());
  writeFileSync(installed, wanted);
}

/** The pinned pnpm, from PATH or through npx. Never corepack: where it is there, it may want to download and fail. */
function pnpm() {
  const pinned = JSON.parse(read(join(root, 'package.json')))
    .packageManager.replace('pnpm@', '')
    .replace(/\+.*/, '');
  // Asked outside the checkout, where no packageManager field makes it switch or download.
  const found = run(['pnpm', '--version'], { ...process.env, COREPACK_ENABLE_NETWORK: '0' }, '/');
  if (found.status === 0 && found.stdout.trim() === pinned) return ['pnpm'];
  if (run(['npx', '--version'], process.env, '/').status !== 0)
    throw new SetupError('npm', `neither pnpm ${pinned} nor npx is on PATH; install npm (it comes with Node)`);
  return ['npx', '-y', `pnpm@${pinned}`];
}

function installEnvironment() {
  const environment = {
    ...process.env,
    CI: '1', // no questions
    ONNXRUNTIME_NODE_INSTALL: 'skip',
    npm_config_fetch_retry_mintimeout: '1000',
    npm_config_fetch_retry_maxtimeout: '5000',
    npm_config_update_notifier: 'false',
  };
  // npm and pnpm keep their caches at home: without a home that can be written, here.
  if (!writable(environment.HOME)) {
    environment.HOME = join(cache, 'home');
    mkdirSync(environment.HOME, { recursive: true });
  }
  return environment;
}

function step(what, command, environment = process.env) {
  const { status, signal, stdout, stderr, error } = run(command, environment, root);
  if (status === 0) return;
  const said = `${stdout ?? ''}\n${stderr ?? ''}\n${error?.message ?? ''}`;
  if (signal === 'SIGINT') process.exit(130);
  writeFileSync(log, said);
  throw explain(said, what);
}

function run([command, ...rest], env, cwd) {
  return spawnSync(command, rest, {
    cwd,
    env,
    encoding: 'utf8',
    maxBuffer: 64 << 20,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** One line for what went wrong in the surroundings; else the first line that says so, and where the rest is. */
function explain(said, what = 'setup') {
  if (/ENOSPC|EDQUOT|no space left/i.test(said))
    return new SetupError('disk-full', `the disk is full (${what}); free 1.5 GB under ${root} and run it again`);
  if (/EROFS|EACCES|EPERM/.test(said))
    return new SetupError('permission', `${/(EROFS|EACCES|EPERM).*/.exec(said)[0]}; make ${root} writable`);
  if (
    /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET|META_FETCH_FAIL/.test(
      said,
    )
  )
    return new SetupError(
      'network',
      "the package registry cannot be reached; connect (or set npm's proxy) and run it again",
    );
  const lines = said.split('\n').filter((line) => line.trim() !== '');
  const line = lines.find((text) => /error|ERR/i.test(text)) ?? lines.at(-1) ?? 'no message';
  return new SetupError(what.replaceAll(' ', '-'), `${line.trim()} (all of it: ${log})`);
}

/** Waits for whoever sets this checkout up just now. A holder that has died is not waited for. */
function lock(path) {
  const own = `${path}.${process.pid}`;
  writeFileSync(own, String(process.pid));
  try {
    for (;;) {
      try {
        linkSync(own, path); // appears whole, with the holder's number in it
        break;
      } catch (error) {
        if (error.code !== 'EEXIST') throw error;
      }
      const holder = Number(read(path));
      if (holder > 0 && !alive(holder) && Number(read(path)) === holder) rmSync(path, { force: true });
      else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    }
  } finally {
    unlinkSync(own);
  }
  const release = () => rmSync(path, { force: true });
  process.once('exit', release);
  return release;
}

function alive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function writable(folder) {
  try {
    accessSync(folder, constants.W_OK);
    return statSync(folder).isDirectory();
  } catch {
    return false;
  }
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
