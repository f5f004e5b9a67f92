/**
 * Spares that there are: those that wait for a container, or are being prepared for one, and those that one has taken.
 * Each goes by itself, and is then forgotten, with what it was prepared from.
 */
import type { Clock } from "../../common/clock.ts";
import { newId } from "../../common/ids.ts";
import type { SparePlan } from "./spare-shape.ts";

/** Milliseconds for which the host process keeps a spare that nobody launches. */
export const spareHeldMs = 30_000;

/** A spare of a shape; shapes are told apart by identity. */
export interface Spare<Shape extends object> {
  readonly id: string;
  readonly shape: Shape;
  /** The moment at which it began to be prepared. */
  readonly fromMs: number;
  /** That which it was prepared from, and the next one can be. */
  readonly plan: SparePlan;
}

/** A spare that a container has taken, which is not launched yet; without a plan once it is gone. */
type TakenSpare<Shape extends object> = Omit<Spare<Shape>, "plan"> & { readonly plan?: SparePlan };

/** The spares of one backend. */
export class HeldSpares<Shape extends object> {
  readonly #clock: Pick<Clock, "nowMs" | "sleep">;
  /** By ID, in the order in which they began to be prepared. */
  readonly #waiting = new Map<string, Spare<Shape>>();
  /** By ID. */
  readonly #taken = new Map<string, TakenSpare<Shape>>();
  /** By ID, what ends the sleep until each goes. */
  readonly #sleeping = new Map<string, AbortController>();

  constructor(clock: Pick<Clock, "nowMs" | "sleep">) {
    this.#clock = clock;
  }

  /** Those that no container has taken, the one that has waited longest first. */
  get waiting(): readonly Spare<Shape>[] {
    return [...this.#waiting.values()];
  }

  /** Those of a shape, as {@link waiting}. */
  waitingOf(shape: Shape): readonly Spare<Shape>[] {
    return this.waiting.filter((spare) => spare.shape === shape);
  }

  /** A spare that is about to be prepared. */
  add(shape: Shape, plan: SparePlan): Spare<Shape> {
    const spare = { id: newId(), shape, fromMs: this.#clock.nowMs(), plan };
    this.#waiting.set(spare.id, spare);
    void this.#forgetOnceGone(spare.id);
    return spare;
  }

  /** Takes one off those that wait; nothing where it has been taken. */
  remove(id: string): void {
    this.#waiting.delete(id);
    this.#sleeping.get(id)?.abort();
  }

  /** Has a container take the spare of a shape that has waited longest. @returns its ID; undefined: none waits */
  take(shape: Shape): string | undefined {
    const [spare] = this.waitingOf(shape);
    if (spare !== undefined) {
      this.#forgetTaken();
      this.#waiting.delete(spare.id);
      this.#taken.set(spare.id, spare);
    }
    return spare?.id;
  }

  /** One that a container has taken; undefined: it took none, or is launched. */
  taken(id: string): TakenSpare<Shape> | undefined {
    return this.#taken.get(id);
  }

  /** How many of a shape were taken by containers that are not launched; some may have gone. */
  takenOf(shape: Shape): number {
    return [...this.#taken.values()].filter((spare) => spare.shape === shape).length;
  }

  /** Told that a container is launched, or is not going to be. */
  settled(id: string): void {
    this.#taken.delete(id);
    this.#sleeping.get(id)?.abort();
  }

  /** Forgets them all. */
  close(): void {
    this.#waiting.clear();
    this.#taken.clear();
    for (const sleep of this.#sleeping.values()) {
      sleep.abort();
    }
  }

  /** A container may be left as it was created, or its record may not have been kept: its spare goes all the same. */
  #forgetTaken(): void {
    for (const [id, { plan }] of this.#taken) {
      if (plan === undefined) {
        this.#taken.delete(id);
      }
    }
  }

  /**
   * Forgets one when the host process ends it. A sleep of its own lasts as long as it should, though the machine's clock
   * is set meanwhile. The container that took it may be launched yet: that it took one is still known then.
   */
  async #forgetOnceGone(id: string): Promise<void> {
    const sleep = new AbortController();
    this.#sleeping.set(id, sleep);
    await this.#clock.sleep(spareHeldMs, sleep.signal).catch(() => {}); // One that is aborted is forgotten already.
    this.#sleeping.delete(id);
    this.#waiting.delete(id);
    const taken = this.#taken.get(id);
    if (taken !== undefined) {
      const { plan: _, ...rest } = taken;
      this.#taken.set(id, rest);
    }
  }
}
