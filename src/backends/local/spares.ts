/**
 * Spares: containers that are launched ahead, but for their command, since others just like them were started a moment ago.
 * This decides of which containers there is to be one, and who gets it; the host process makes them, and takes back
 * those that nobody wants.
 */
import { Code, ConnectError } from "@connectrpc/connect";

import type { Clock } from "../../common/clock.ts";
import { messageOf } from "../../common/errors.ts";
import type { Logger } from "../../common/logger.ts";
import type { PlannedContainer } from "../common/driver/launches.ts";
import type { WorkloadSpec } from "../common/driver/workload-spec.ts";
import { HeldSpares, type Spare, spareHeldMs } from "./held-spares.ts";
import { isFirstAlone, planOf, shapeOf, type SparePlan, spareOf } from "./spare-shape.ts";

/**
 * Milliseconds in which a second container of a shape has to follow the first: of those that come more slowly each would
 * have one prepared that has gone before the next.
 */
const soonMs = spareHeldMs;
/** Milliseconds until another is tried of a shape of which one has failed. */
const retryMs = 60_000;
/** Spares that wait or are being prepared at a time, of all shapes; one more where one is to give way, or is ending. */
const mostHeld = 4;
/** Milliseconds without a shape that seeks another's place, after which one may have it that was given in vain. */
const contendedMs = 30_000;
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
  /** The last time when a container had to wait for its spare. */
  hurriedMs?: number;
  /** Containers in a row that took a spare and were launched without it. */
  missed?: number;
  /** None is prepared until then. */
  refusedUntilMs?: number;
  /** The spare that gave way last would have waited until then. */
  displacedUntilMs?: number;
}

/** Settings of {@link Spares}. */
export interface SparesOptions {
  /** Has the host process launch a container ahead; what fails leaves nothing behind. */
  readonly prepare: (spec: WorkloadSpec) => Promise<void>;
  /** Has the host process end a spare that nobody has. */
  readonly end: (containerId: string) => Promise<void>;
  readonly clock: Pick<Clock, "nowMs" | "sleep">;
  readonly logger: Pick<Logger, "debug">;
}

/** The spares of one backend. */
export class Spares {
  readonly #options: SparesOptions;
  /** By key, the one that was used last at the end. */
  readonly #shapes = new Map<string, Shape>();
  readonly #held: HeldSpares<Shape>;
  /** Launches that are under way until their process runs, by container. */
  readonly #launching = new Map<string, WorkloadSpec>();
  /** Preparations under way, by the ID of what they prepare; none rejects. */
  readonly #preparing = new Map<string, Promise<void>>();
  /** Ends under way of those that give way to others; none rejects. */
  readonly #ending = new Set<Promise<void>>();
  /** No spare gives way until then. */
  #contendedUntilMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: SparesOptions) {
    this.#options = options;
    this.#held = new HeldSpares(options.clock);
  }

  /** The ID of a spare that is like a container, which nobody else gets; undefined: there is none. */
  take(planned: PlannedContainer): string | undefined {
    const key = this.#held.waiting.length === 0 ? undefined : shapeOf(planned);
    const shape = key === undefined ? undefined : this.#shapes.get(key);
    const taken = shape === undefined ? undefined : this.#held.take(shape);
    if (shape === undefined || taken === undefined) {
      return undefined;
    }
    if (this.#preparing.has(taken)) {
      shape.hurriedMs = this.#options.clock.nowMs();
    }
    this.#options.logger.debug({ container: taken }, "a container takes the spare one that is like it");
    return taken;
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
    const { shape, plan } = this.#held.taken(containerId) ?? {};
    if (shape !== undefined && plan !== undefined && this.#held.takenOf(shape) === 1) {
      this.#prepareUnlessBusy(shape, plan);
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
    const shape = this.#held.taken(id)?.shape;
    this.#held.settled(id);
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
    this.#held.settled(containerId);
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
    const { displacedUntilMs, startedMs } = shape;
    shape.startedMs = nowMs;
    if (displacedUntilMs !== undefined && nowMs < displacedUntilMs) {
      this.#contendedUntilMs = nowMs + contendedMs; // Its spare would have been of use.
    }
    if (startedMs !== undefined && nowMs - startedMs <= soonMs) {
      this.#prepareUnlessBusy(shape, planOf(spec), startedMs);
    }
  }

  /** Prepares no more; resolves once no preparation is under way. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#held.close();
    await Promise.all([...this.#preparing.values(), ...this.#ending]);
  }

  /**
   * Prepares a spare, unless there is one, or something else is starting, which needs the machine. Where containers come
   * faster than spares are prepared, two are at a time.
   *
   * @param idleFromMs the first spare of its shape takes the place of one for which nobody has asked since then;
   *   absent: of none. So of five shapes that come in turn none has another's place before that one's turn.
   */
  #prepareUnlessBusy(shape: Shape, plan: SparePlan, idleFromMs = Number.NEGATIVE_INFINITY): void {
    const nowMs = this.#options.clock.nowMs();
    const isHurried = shape.hurriedMs !== undefined && nowMs - shape.hurriedMs < spareHeldMs;
    const wanted = isHurried ? mostPrepared : 1;
    const isBusy = this.#launching.size > 0 || this.#preparing.size >= wanted;
    const isRefused = (shape.refusedUntilMs ?? 0) > nowMs;
    const ofShape = this.#held.waitingOf(shape).length;
    if (
      !isBusy &&
      !isRefused &&
      ofShape < wanted &&
      this.#hasPlace(ofShape === 0 ? idleFromMs : Number.NEGATIVE_INFINITY) &&
      !this.#closed
    ) {
      const spare = this.#held.add(shape, plan);
      const preparing = this.#prepare(spare);
      this.#preparing.set(
        spare.id,
        preparing.finally(() => this.#preparing.delete(spare.id)),
      );
    }
  }

  /**
   * Whether there is room for one more, or one that gives it.
   *
   * A spare that gives way just before it is asked for costs more than one that is not prepared. Where several shapes
   * come in turn, that would go on and on: so none gives way after that, as long as there are shapes that seek a place.
   */
  #hasPlace(idleFromMs: number): boolean {
    const { length, [0]: longest } = this.#held.waiting;
    if (length < mostHeld) {
      return true;
    }
    if (length > mostHeld || this.#ending.size > 0 || longest === undefined || longest.fromMs > idleFromMs) {
      return false;
    }
    const nowMs = this.#options.clock.nowMs();
    const isContended = nowMs < this.#contendedUntilMs;
    if (isContended) {
      this.#contendedUntilMs = nowMs + contendedMs;
    }
    return !isContended;
  }

  async #prepare({ id, plan, shape }: Spare<Shape>): Promise<void> {
    const { clock, logger, prepare } = this.#options;
    const told = { container: id, like: plan.like };
    logger.debug(told, "a spare container is prepared");
    try {
      await prepare(spareOf(plan, id));
      logger.debug(told, "a spare container waits");
      this.#endOneTooMany();
    } catch (error) {
      this.#held.remove(id);
      if (!isOvertaken(error)) {
        refuse(shape, isNever(error) ? Number.POSITIVE_INFINITY : clock.nowMs() + retryMs);
      }
      logger.debug(told, `no spare container is prepared: ${messageOf(error)}`);
    }
  }

  /** One that has been taken meanwhile, or has gone, has left its place already. */
  #endOneTooMany(): void {
    const { length, [0]: longest } = this.#held.waiting;
    if (longest !== undefined && length > mostHeld) {
      this.#held.remove(longest.id); // From now on nobody takes it.
      longest.shape.displacedUntilMs = longest.fromMs + spareHeldMs;
      const ending = this.#end(longest.id);
      this.#ending.add(ending);
      void ending.finally(() => this.#ending.delete(ending));
    }
  }

  async #end(id: string): Promise<void> {
    const { end, logger } = this.#options;
    try {
      await end(id);
      logger.debug({ container: id }, "a spare container has given way to another");
    } catch (error) {
      logger.debug({ container: id }, `a spare container that gives way goes by itself: ${messageOf(error)}`);
    }
  }

  /** The shape of a key, which is now the one that was used last. */
  #shape(key: string): Shape {
    const shape = this.#shapes.get(key) ?? {};
    this.#shapes.delete(key);
    this.#shapes.set(key, shape);
    const [oldest] = this.#shapes.keys();
    if (this.#shapes.size > mostShapes && oldest !== undefined) {
      this.#shapes.delete(oldest); // Its spares, if it has any, go by themselves.
    }
    return shape;
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
