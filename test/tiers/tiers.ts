export type TierName = 'static' | 'unit' | 'interop' | 'e2e' | 'faults' | 'arm64';

export interface Tier {
  readonly name: TierName;
  readonly is: string;
  /** Vitest's path filters. */
  readonly paths: readonly string[];
  readonly tools: readonly Tool[];
}

/** What a tier needs from the system: a file that shows that it is there, and the Debian packages that bring it. */
export interface Tool {
  readonly file: string;
  readonly packages: readonly string[];
}

const skopeo: Tool = { file: '/usr/bin/skopeo', packages: ['skopeo'] };
const dockerRegistry: Tool = { file: '/usr/bin/docker-registry', packages: ['docker-registry'] };
const onnxTestdata: Tool = { file: '/usr/share/libonnx-testdata', packages: ['libonnx-testdata'] };
const mosquitto: Tool = { file: '/usr/sbin/mosquitto', packages: ['mosquitto'] };
const postgres: Tool = { file: '/usr/lib/postgresql', packages: ['postgresql'] };
const qemu: Tool = { file: '/usr/bin/qemu-aarch64-static', packages: ['qemu-user-static'] };
const arm64Libraries: Tool = {
  file: '/usr/aarch64-linux-gnu/lib/libstdc++.so.6',
  packages: ['libc6-arm64-cross', 'libstdc++6-arm64-cross', 'libgcc-s1-arm64-cross', 'libgomp1-arm64-cross'],
};

export const tiers: readonly Tier[] = [
  { name: 'static', is: 'format, lint, types, dead code, walls', paths: ['test/static/'], tools: [] },
  {
    name: 'unit',
    is: 'each package, the READMEs, the label lines',
    paths: ['packages/', 'test/labels/', 'test/readme'],
    tools: [onnxTestdata, mosquitto],
  },
  {
    name: 'interop',
    is: 'other people’s tools and models',
    paths: ['test/interop/'],
    tools: [skopeo, dockerRegistry, onnxTestdata, mosquitto],
  },
  {
    name: 'e2e',
    is: 'the command line and the fleet, end to end',
    paths: ['test/e2e/', 'test/demo/', 'test/scripts/'],
    tools: [],
  },
  { name: 'faults', is: 'kills, full disks, refusals', paths: ['test/faults/'], tools: [postgres] },
  {
    name: 'arm64',
    is: 'Cortex-A72 and A76 under qemu-user',
    paths: ['test/arm64/'],
    tools: [qemu, arm64Libraries],
  },
];
