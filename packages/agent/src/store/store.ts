import { assemblePack, type PublicKey } from '@flotilla/pack';
import { type DesiredRelease, isName } from '@flotilla/protocol';
import type { RebuildPlan } from '@flotilla/runtime';
import { join } from 'node:path';
import { emptyRecord, type Installed, type ModelRecord, type SlotName } from '../mind/state.ts';
import type { Disk } from '../ports.ts';
import { Refusal } from '../refusal.ts';
import { type Document, document } from './document.ts';
import { Gathering, type Plan } from './gathering.ts';
import { parseMark, parseRecord, type SlotMark } from './record.ts';

/**
 * Everything that the agent keeps:
 *
 *     models/<name>/state.1 state.2    the record: slot pointer, last accepted release, step of the update
 *     models/<name>/a/ b/              a slot: pack/ (an OCI layout), lowered/ (for this board), mark.1 mark.2; base/,
 *                                      where the model was rebuilt: the one that it was made of
 *     models/<name>/next/              where the next pack comes together
 */
export class Store {
  readonly dataDir: string;
  private readonly disk: Disk;
  private readonly documents = new Map<string, Document>();
  private readonly gatherings = new Map<string, Gathering>();

  constructor(disk: Disk, dataDir: string) {
    this.disk = disk;
    this.dataDir = dataDir;
  }

  /** @throws {AgentError} `agent/state-newer` */
  async records(): Promise<readonly ModelRecord[]> {
    const names = (await this.disk.list(join(this.dataDir, 'models'))).filter(isName);
    return Promise.all(names.map((name) => this.readRecord(name)));
  }

  async save(record: ModelRecord): Promise<void> {
    await this.disk.makeFolder(this.folder(record.name));
    await this.record(record.name).write(record);
  }

  plan(release: DesiredRelease): Promise<Plan> {
    return this.gathering(release.name).plan(release);
  }

  /** @throws why the release's model could not be rebuilt */
  rebuild(release: DesiredRelease, build: (plan: RebuildPlan) => Promise<void>): Promise<void> {
    return this.gathering(release.name).rebuild(release, build);
  }

  store(name: string, piece: Parameters<Gathering['store']>[0], data: Uint8Array): Promise<'stored' | 'damaged'> {
    return this.gathering(name).store(piece, data);
  }

  /** Every digest and the signature. @throws {PackError}, {Refusal} `board-unsupported`, `pack-invalid` */
  async verify(release: DesiredRelease, trusted: readonly PublicKey[], boardClass: string): Promise<void> {
    const gathering = this.gathering(release.name);
    await gathering.tidy(release);
    const pack = await assemblePack(gathering.pack, release.digest, { trusted });
    await pack.close();
    const { golden } = pack.config;
    if (golden === null) throw new Refusal('pack-invalid', 'the pack holds no golden vectors to judge it by');
    if (!Object.hasOwn(golden.tolerance, boardClass))
      throw new Refusal('board-unsupported', `no tolerance for boards of class ${boardClass}`);
  }

  /** Moves what was gathered into a slot. Once begun it can be begun again. */
  async install({ name, digest, sequence }: DesiredRelease, slot: SlotName): Promise<void> {
    const { folder } = this.gathering(name);
    await this.mark(folder, { digest, sequence, committed: false });
    await this.disk.remove(this.slot(name, slot));
    await this.disk.move(folder, this.slot(name, slot));
  }

  async markCommitted(name: string, { slot, digest }: Installed, sequence: number): Promise<void> {
    await this.mark(this.slot(name, slot), { digest, sequence, committed: true });
  }

  async clean(name: string, keep: readonly SlotName[]): Promise<void> {
    await this.gathering(name).drop();
    await this.disk.remove(join(this.folder(name), 'next'));
    for (const slot of ['a', 'b'] as const) if (!keep.includes(slot)) await this.disk.remove(this.slot(name, slot));
  }

  async dropSlot(name: string, slot: SlotName): Promise<void> {
    await this.disk.remove(this.slot(name, slot));
  }

  slot(name: string, slot: SlotName): string {
    return join(this.folder(name), slot);
  }

  private folder(name: string): string {
    return join(this.dataDir, 'models', name);
  }

  private gathering(name: string): Gathering {
    const known = this.gatherings.get(name);
    if (known !== undefined) return known;
    const made = new Gathering(this.disk, join(this.folder(name), 'next'), () => this.packs());
    this.gatherings.set(name, made);
    return made;
  }

  /** Every pack in a slot, of any model, and what it was rebuilt from: what one has, another need not fetch. */
  private async packs(): Promise<readonly string[]> {
    const names = (await this.disk.list(join(this.dataDir, 'models'))).filter(isName);
    const slots = names.flatMap((name) => [this.slot(name, 'a'), this.slot(name, 'b')]);
    return slots.flatMap((slot) => [join(slot, 'pack'), join(slot, 'base')]);
  }

  private record(name: string): Document {
    const known = this.documents.get(name) ?? document(this.disk, join(this.folder(name), 'state'));
    this.documents.set(name, known);
    return known;
  }

  private async readRecord(name: string): Promise<ModelRecord> {
    const found = await this.record(name).read();
    if (found === 'absent') return emptyRecord(name);
    return (found === 'damaged' ? undefined : parseRecord(found.body, name)) ?? this.rebuildRecord(name);
  }

  /** Both copies are garbage: the slots still say which of them was committed last. */
  private async rebuildRecord(name: string): Promise<ModelRecord> {
    const slots: (SlotMark & Installed)[] = [];
    for (const slot of ['a', 'b'] as const) {
      const found = await document(this.disk, join(this.slot(name, slot), 'mark')).read();
      const mark = typeof found === 'object' ? parseMark(found.body) : undefined;
      if (mark?.committed) slots.push({ slot, ...mark });
    }
    const [active, fallback] = slots
      .sort((one, other) => other.sequence - one.sequence)
      .map(({ slot, digest, sequence }) => ({ slot, digest, sequence }));
    const detail = `the state file was damaged; ${active === undefined ? 'no slot was ever committed' : `slot ${active.slot} was found committed`}`;
    return {
      ...emptyRecord(name),
      sequence: active?.sequence ?? 0,
      active: active && { slot: active.slot, digest: active.digest },
      fallback: fallback && { slot: fallback.slot, digest: fallback.digest },
      phase: { at: 'failed', reason: 'storage-fault', detail },
    };
  }

  private async mark(folder: string, mark: SlotMark): Promise<void> {
    await document(this.disk, join(folder, 'mark')).write(mark);
  }
}
