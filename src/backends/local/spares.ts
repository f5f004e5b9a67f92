/**
 * Spares: containers that are launched ahead, but for their command, since others just like them were started a moment ago.
 * This decides of which containers there is to be one, and who gets it; the host process makes them, and takes back
 * those that nobody wants.
 */
import { Code, ConnectError } from "@connectrpc/connect";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import { newId } from "../../common/ids.ts";
import type { Logger } from "../../common/logger.ts";
import type { PlannedContainer } from "../common/driver/launches.ts";
import type { WorkloadSpec } from "../common/driver/workload-spec.ts";
import { isFirstAlone, shapeOf, spareOf } from "./spare-shape.ts";

/** Milliseconds for which the host process keeps a spare that nobody launches. */
export const spareHeldMs = 30_000;
/**
 * Milliseconds in which a second container of a shape has to follow the first: of those that come more slowly each would
 * have one prepared that has gone before the next.
 */
const soonMs = spareHeldMs;
/** Milliseconds until another is tried of a shape of which one has failed. */
const retryMs = 60_000;
/** Spares that wait or are being prepared at a time, of all shapes. */
const mostHeld = 4;
/** Spares that are being prepared at a time: one after the other where nobody is in a hurry. */
const mostPrepared = 2;
/** Spares in a row that are of no use, after which the next ones would not be either. */
const mostMissed = 2;
/** Milliseconds for which none is prepared then. */
const missedMs = 600_000;
/** Shapes that are remembered. */
const mostShapes = 64;

interface Shape {
  /** The last time when one was started; undefined: none was. */
  startedMs?: number;
  /** The last one, which others are made after; undefined: one alone has been started. */
  like?: WorkloadSpec;
  /** Those that wait, or are being prepared, in this order; some may have gone by now. */
  spares: readonly Spare[];
  /** The last time when a container had to wait for its spare. */
  hurriedMs?: number;
  /** Containers in a row that took a spare and were launched without it. */
  missed?: number;
  /** None is prepared until then. */
  refusedUntilMs?: number;
}

interface Spare {
  readonly id: string;
  /** It is gone then. */
  readonly untilMs: number;
}

interface TakenSpare extends Spare {
  readonly shape: Shape;
}

/** Settings of {@link Spares}. */
export interface SparesOptions {
  /** Has the host process launch a container ahead; what fails leaves nothing behind. */
  readonly prepare: (spec: WorkloadSpec) => Promise<void>;
  readonly clock: Pick<Clock, "nowMs">;
  readonly logger: Pick<Logger, "debug">;
}

/** The spares of one backend. */
export class Spares {
  readonly #options: SparesOptions;
  /** By key, the one that was used last at the end. */
  readonly #shapes = new Map<string, Shape>();
  /** Spares that a container took which is not launched yet, by ID; some may have gone by now. */
  readonly #taken = new Map<string, TakenSpare>();
  /** Launches that are under way until their process runs, by container. */
  readonly #launching = new Map<string, WorkloadSpec>();
  /** Preparations under way, by the ID of what they prepare; none rejects. */
  readonly #preparing = new Map<string, Promise<void>>();
  #closed = false;

  constructor(options: SparesOptions) {
    this.#options = options;
  }

  /** The ID of a spare that is like a container, which nobody else gets; undefined: there is none. */
  take(planned: PlannedContainer): string | undefined {
    const key = shapeOf(planned);
    const shape = key === undefined ? undefined : this.#shapes.get(key);
    const [spare, ...others] = shape === undefined ? [] : this.#heldOf(shape);
    if (shape === undefined || spare === undefined) {
      return undefined;
    }
    shape.spares = others;
    if (this.#preparing.has(spare.id)) {
      shape.hurriedMs = this.#options.clock.nowMs();
    }
    this.#forgetGone();
    this.#taken.set(spare.id, { ...spare, shape });
    this.#options.logger.debug({ container: spare.id }, "a container takes the spare one that is like it");
    return spare.id;
  }

  /** Resolves once a spare is no longer being prepared, whether it is there now or not. */
  async prepared(containerId: string): Promise<void> {
    await this.#preparing.get(containerId);
  }

  /**
   * Told that a container is being made: where it took a spare, the next one is prepared meanwhile, since those who run
   * one such container after the other ask for it as soon as this one has ended. Those who only create them get no more.
   */
  making(containerId: string): void {
    const taken = this.#taken.get(containerId);
    const unlaunched = [...this.#taken.values()].filter(({ shape }) => shape === taken?.shape);
    if (taken !== undefined && unlaunched.length === 1) {
      this.#prepareUnlessBusy(taken.shape);
    }
  }

  /**
   * Told that a launch begins.
   *
   * @returns to be told whether it had the use of the spare under its ID: of containers that twice in a row had not, since
   *   something was done to them before their start, none is prepared for a while
   */
  launching(spec: WorkloadSpec): (claimed: boolean) => void {
    const { id } = spec.record;
    const shape = this.#taken.get(id)?.shape;
    this.#taken.delete(id);
    this.#launching.set(id, spec);
    return (claimed) => {
      if (shape === undefined) {
        return;
      }
      shape.missed = claimed ? 0 : (shape.missed ?? 0) + 1;
      if (shape.missed === mostMissed) {
        shape.missed = 0;
        refuse(shape, this.#options.clock.nowMs() + missedMs);
      }
    };
  }

  /** Told that a container is not launched, or its launch is over without a process that runs. */
  over(containerId: string): void {
    this.#taken.delete(containerId);
    this.#launching.delete(containerId);
  }

  /** Told that a container's process runs: prepares a spare like it where the next one is likely to come. */
  started(containerId: string): void {
    const spec = this.#launching.get(containerId);
    this.#launching.delete(containerId);
    const key = spec !== undefined && isFirstAlone(spec) ? shapeOf(spec.record) : undefined;
    if (spec === undefined || key === undefined) {
      return;
    }
    const nowMs = this.#options.clock.nowMs();
    const shape = this.#shape(key);
    const isAnother = shape.startedMs !== undefined && nowMs - shape.startedMs <= soonMs;
    shape.startedMs = nowMs;
    if (isAnother) {
      shape.like = spec;
      this.#prepareUnlessBusy(shape);
    }
  }

  /** Prepares no more; resolves once no preparation is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#preparing.values());
  }

  /**
   * Prepares a spare, unless there is one, or something else is starting, which needs the machine. Where containers come
   * faster than spares are prepared, two are at a time.
   */
  #prepareUnlessBusy(shape: Shape): void {
    const { clock } = this.#options;
    const nowMs = clock.nowMs();
    const isHurried = shape.hurriedMs !== undefined && nowMs - shape.hurriedMs < spareHeldMs;
    const wanted = isHurried ? mostPrepared : 1;
    const isBusy = this.#launching.size > 0 || this.#preparing.size >= wanted;
    const isRefused = (shape.refusedUntilMs ?? 0) > nowMs;
    const held = this.#heldOf(shape);
    const isFull = held.length >= wanted || this.#held >= mostHeld;
    if (shape.like !== undefined && !isBusy && !isRefused && !isFull && !this.#closed) {
      const id = newId();
      shape.spares = [...held, { id, untilMs: nowMs + spareHeldMs }];
      const preparing = this.#prepare(shape, shape.like, id);
      this.#preparing.set(
        id,
        preparing.finally(() => this.#preparing.delete(id)),
      );
    }
  }

  async #prepare(shape: Shape, like: WorkloadSpec, id: string): Promise<void> {
    const { clock, logger, prepare } = this.#options;
    const told = { container: id, like: like.record.id };
    logger.debug(told, "a spare container is prepared");
    try {
      await prepare(spareOf(like, id));
      logger.debug(told, "a spare container waits");
    } catch (error) {
      shape.spares = shape.spares.filter((spare) => spare.id !== id);
      if (!isOvertaken(error)) {
        refuse(shape, isNever(error) ? Number.POSITIVE_INFINITY : clock.nowMs() + retryMs);
      }
      logger.debug(told, `no spare container is prepared: ${messageOf(error)}`);
    }
  }

  /** The shape of a key, which is now the one that was used last. */
  #shape(key: string): Shape {
    const shape = this.#shapes.get(key) ?? { spares: [] };
    this.#shapes.delete(key);
    this.#shapes.set(key, shape);
    const [oldest] = this.#shapes.keys();
    if (this.#shapes.size > mostShapes && oldest !== undefined) {
      this.#shapes.delete(oldest); // Its spares, if it has any, go by themselves.
    }
    return shape;
  }

  /** A container may be left as it was created, or its record may not have been kept: its spare goes all the same. */
  #forgetGone(): void {
    const nowMs = this.#options.clock.nowMs();
    for (const [id, { untilMs }] of this.#taken) {
      if (untilMs <= nowMs) {
        this.#taken.delete(id);
      }
    }
  }

  #heldOf({ spares }: Shape): readonly Spare[] {
    const nowMs = this.#options.clock.nowMs();
    return spares.filter(({ untilMs }) => untilMs > nowMs);
  }

  get #held(): number {
    return [...this.#shapes.values()].flatMap((shape) => this.#heldOf(shape)).length;
  }
}

/** Has none prepared until then; a refusal that lasts longer stays. */
function refuse(shape: Shape, untilMs: number): void {
  shape.refusedUntilMs = Math.max(shape.refusedUntilMs ?? 0, untilMs);
}

/** Whether the container that took the ID was created first. */
function isOvertaken(error: unknown): boolean {
  return error instanceof ConnectError && error.code === Code.AlreadyExists;
}

/** Whether a container of these settings cannot be launched ahead at all. */
function isNever(error: unknown): boolean {
  return (
    error instanceof ConnectError &&
    (error.code === Code.FailedPrecondition || error.code === Code.Unimplemented)
  );
}
