export type Arch = 'x64' | 'arm64';

/** CPU features that decide which kernels are fast. `avx512` is F, BW, DQ and VL together, as MLAS asks for them. */
export type IsaFeature = 'avx2' | 'avx512' | 'vnni' | 'neon' | 'dotprod' | 'i8mm' | 'fp16';

/**
 * Boards whose kernels give the same numbers: golden tolerances and lowering choices are kept per class.
 * `x64`: AVX2 without VNNI (U8S8 saturates at 16 bits); `x64-vnni`; `arm64`: no dot product; `arm64-dotprod`.
 */
export type BoardClass = 'x64' | 'x64-vnni' | 'arm64' | 'arm64-dotprod';

/** What a board is, as `devices/<name>.yaml` says it. */
export interface Board {
  readonly name: string;
  readonly title: string;
  readonly arch: Arch;
  readonly boardClass: BoardClass;
  readonly cpu: { readonly model: string; readonly cores: number; readonly features: readonly IsaFeature[] };
  readonly ramBytes: number;
  readonly storage: string;
  readonly boot: string;
  /** Where the figures come from. */
  readonly sources: readonly string[];
}

/** The class follows from the CPU alone, so a file cannot contradict itself by stating it. */
export function boardClassOf(arch: Arch, features: readonly IsaFeature[]): BoardClass {
  if (arch === 'x64') return features.includes('vnni') ? 'x64-vnni' : 'x64';
  return features.includes('dotprod') ? 'arm64-dotprod' : 'arm64';
}
