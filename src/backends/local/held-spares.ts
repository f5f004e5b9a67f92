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
  /** It is gone then. */
  readonly untilMs: number;
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
  readonly #closing = new AbortController();
  #isForgetting = false;

  constructor(clock: Pick<Clock, "nowMs" | "sleep">) {
    this.#clock = clock;
  }

  /** Those that no container has taken, the one that has waited longest first. */
  get waiting(): readonly Spare<Shape>[] {
    const nowMs = this.#clock.nowMs();
    return [...this.#waiting.values()].filter(({ untilMs }) => untilMs > nowMs);
  }

  /** Those of a shape, as {@link waiting}. */
  waitingOf(shape: Shape): readonly Spare<Shape>[] {
    return this.waiting.filter((spare) => spare.shape === shape);
  }

  /** A spare that is about to be prepared. */
  add(shape: Shape, plan: SparePlan): Spare<Shape> {
    const fromMs = this.#clock.nowMs();
    const spare = { id: newId(), shape, fromMs, untilMs: fromMs + spareHeldMs, plan };
    this.#waiting.set(spare.id, spare);
    void this.#forgetAsTheyGo();
    return spare;
  }

  /** Takes one off those that wait; nothing where it has been taken. */
  remove(id: string): void {
    this.#waiting.delete(id);
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
  }

  /** Forgets them all. */
  close(): void {
    this.#closing.abort();
    this.#waiting.clear();
    this.#taken.clear();
  }

  /** A container may be left as it was created, or its record may not have been kept: its spare goes all the same. */
  #forgetTaken(): void {
    for (const [id, { plan }] of this.#taken) {
      if (plan === undefined) {
        this.#taken.delete(id);
      }
    }
  }

  async #forgetAsTheyGo(): Promise<void> {
    if (this.#isForgetting) {
      return;
    }
    this.#isForgetting = true;
    const { signal } = this.#closing;
    for (let next = this.#nextEnd(); next !== undefined && !signal.aborted; next = this.#nextEnd()) {
      await this.#clock.sleep(Math.max(0, next - this.#clock.nowMs()), signal).catch(() => {});
      this.#forgetGone();
    }
    this.#isForgetting = false;
  }

  /** The moment at which the next one goes that is not forgotten. */
  #nextEnd(): number | undefined {
    const known = [...this.#waiting.values(), ...this.#taken.values()].filter(
      ({ plan }) => plan !== undefined,
    );
    return known.length === 0 ? undefined : Math.min(...known.map(({ untilMs }) => untilMs));
  }

  /** The container that took one may be launched yet: that it took one is still known then. */
  #forgetGone(): void {
    const nowMs = this.#clock.nowMs();
    for (const [id, { untilMs }] of this.#waiting) {
      if (untilMs <= nowMs) {
        this.#waiting.delete(id);
      }
    }
    for (const [id, { plan, ...rest }] of this.#taken) {
      if (plan !== undefined && rest.untilMs <= nowMs) {
        this.#taken.set(id, rest);
      }
    }
  }
}
