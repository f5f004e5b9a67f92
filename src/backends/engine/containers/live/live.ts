/** In-memory state of containers: their runs and waiters. */
import type { SockerlessError } from "../../../../common/errors.ts";
import { getOrInsert } from "../../../../common/get-or-insert.ts";
import type { NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { Lock } from "../../../concurrency/serial.ts";
import type { AgentLink } from "./agent-link.ts";
import { LeftStops } from "./left-stops.ts";
import { RepeatedCalls } from "./repeated-calls.ts";
import { Reservations } from "./reservations.ts";
import { LiveRun } from "./run.ts";
import { Waiters } from "./waiters.ts";

/** The live part of one container. */
export class LiveContainer {
  readonly id: string;
  /** Held during state changes: start, exit, signal, removal. Never while waiting for an exit. */
  readonly lock = new Lock();
  /** A user's restarts take turns, each with {@link lock} for a part of it. */
  readonly restarts = new Lock();
  /** The calls for restarts, those that wait for their turn too. */
  readonly restartCalls = new RepeatedCalls();
  readonly leftStops = new LeftStops();
  /** Held while a stop records its event: one exit ends any number of stops. */
  readonly stopEvents = new Lock();
  readonly run = new LiveRun();
  readonly waiters = new Waiters();
  readonly reservations = new Reservations();
  /** The error of the last start that a user has cancelled; calls that waited for it fail with the same. */
  startEnded: SockerlessError | undefined;
  /** Resolves when the remains of the last run are removed, or that has failed. */
  released: Promise<void> = Promise.resolve();
  /** Endpoints of the last run, whose addresses are in use while the driver keeps its sandbox. */
  kept: Record<string, NetworkEndpoint> | undefined;
  /** How often others have waited for long until its agents had taken names, and the clock's time from which they wait again. */
  readonly lateNames = { count: 0, untilMs: 0 };
  /** Delay of the last restart by policy. */
  restartDelayMs: number = 0;

  constructor(id: string) {
    this.id = id;
  }

  /** The agent, while the container starts or runs. */
  get link(): AgentLink | undefined {
    return this.run.link;
  }
}

/** The live parts of all containers. */
export class LiveContainers {
  readonly #containers = new Map<string, LiveContainer>();

  /** The live part of a container, created on first use. */
  of(id: string): LiveContainer {
    return getOrInsert(this.#containers, id, () => new LiveContainer(id));
  }

  /** The live part of a container; undefined if it has not been used yet. */
  peek(id: string): LiveContainer | undefined {
    return this.#containers.get(id);
  }

  /** Reasons for which starts wait for the platform, in its words, one per start. */
  get waits(): readonly string[] {
    const reasons = [...this.#containers.values()].map(({ run }) => run.start?.waitsFor ?? "");
    return reasons.filter((reason) => reason !== "");
  }

  /** Drops a removed container. */
  forget(id: string): void {
    this.#containers.get(id)?.run.leave();
    this.#containers.delete(id);
  }

  /** Ends all links and restart delays; containers continue to run. */
  disconnect(): void {
    for (const { run } of this.#containers.values()) {
      run.endWait();
      run.leave();
    }
  }
}
