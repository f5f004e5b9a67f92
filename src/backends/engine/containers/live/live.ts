/** Containers as this process alone knows them: their runs, and those who wait for them. */
import type { SockerlessError } from "../../../../common/errors.ts";
import type { NetworkEndpoint } from "../../../../gen/sockerless/backend/v1/container_pb.ts";
import { Lock } from "../../../concurrency/serial.ts";
import type { AgentLink } from "./agent-link.ts";
import { Reservations } from "./reservations.ts";
import { LiveRun } from "./run.ts";
import { Waiters } from "./waiters.ts";

/** The live part of one container. */
export class LiveContainer {
  readonly id: string;
  /** Held while the container changes its state: starts, exits, is signalled, goes. Never while waiting for an exit. */
  readonly lock = new Lock();
  readonly run = new LiveRun();
  readonly waiters = new Waiters();
  readonly reservations = new Reservations();
  /** The answer of the last start that a user has ended; those that had waited for it answer the same. */
  startEnded: SockerlessError | undefined;
  /** Resolves when the remains of the last run are taken away, or could not be. */
  released: Promise<void> = Promise.resolve();
  /** Endpoints of the last run, whose addresses are in use while the driver keeps what it ran in. */
  kept: Record<string, NetworkEndpoint> | undefined;
  /** How long the last restart by policy waited. */
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

  /** The live part of a container, made when it is first asked for. */
  of(id: string): LiveContainer {
    const known = this.#containers.get(id);
    if (known !== undefined) {
      return known;
    }
    const live = new LiveContainer(id);
    this.#containers.set(id, live);
    return live;
  }

  /** The live part of a container; undefined: nobody has asked for it yet. */
  peek(id: string): LiveContainer | undefined {
    return this.#containers.get(id);
  }

  /** Why starts wait for the platform, in its words: one for each that does. */
  get waits(): readonly string[] {
    const reasons = [...this.#containers.values()].map(({ run }) => run.start?.waitsFor ?? "");
    return reasons.filter((reason) => reason !== "");
  }

  /** Forgets a container that is gone. */
  forget(id: string): void {
    this.#containers.get(id)?.run.leave();
    this.#containers.delete(id);
  }

  /** Ends every link, and every wait of a restart; containers go on. */
  disconnect(): void {
    for (const { run } of this.#containers.values()) {
      run.endWait();
      run.leave();
    }
  }
}
