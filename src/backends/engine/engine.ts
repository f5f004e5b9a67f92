/**
 * The engine: Docker's semantics on top of a driver. Each folder holds one subject (containers, execs, networks,
 * volumes, events, recovery, and `inner`: Docker sockets inside containers), with its pure decisions in `decisions/` and its
 * operations beside them. `services/` exposes them by RPC; `work/` has background work and retries.
 */
import type { Clock } from "../../common/clock.ts";
import type { AgentTarget } from "../../agent-client/address.ts";
import { unavailable } from "../../common/errors.ts";
import { componentLogger, type Logger } from "../../common/logger.ts";
import type { Driver } from "../driver/driver.ts";
import type { State } from "../state/state.ts";
import { LostState } from "./recovery/adoption.ts";
import { agentTargetOf } from "./containers/agent/agent-endpoint.ts";
import { BackgroundWork } from "./work/background.ts";
import type { EngineContext } from "./context.ts";
import { sweepExecsRegularly } from "./execs/exec-remains.ts";
import type { ImageSource } from "../driver/image-source.ts";
import { LiveContainers } from "./containers/live/live.ts";
import { AddressBook } from "./networks/address-book.ts";
import { keepPeers } from "./networks/name-pushes.ts";
import { keepPartners } from "./networks/partner-pushes.ts";
import { removeMadeThrough, removeOrphans } from "./inner/leftovers.ts";
import { removeInBackground } from "./containers/remove/remove-container.ts";
import { removeUnstarted } from "./containers/remove/remove-unstarted.ts";
import { startContainer } from "./containers/start/start-container.ts";
import { settleLosses } from "./recovery/losses.ts";
import { ensureNetworks, recoverContainers } from "./recovery/recovery.ts";
import { reportShortages } from "./volumes/shortages.ts";
import { KeyedLocks } from "../concurrency/serial.ts";
import { StartWork } from "./recovery/start-work.ts";
import { onAbort } from "../../common/on-abort.ts";
import { after } from "../../common/timers.ts";

/** Dependencies of an engine, none of which it owns. */
export interface EngineOptions {
  readonly driver: Driver;
  readonly state: State;
  readonly images: ImageSource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Aborts the start, which may have to wait for other services. */
  readonly signal?: AbortSignal;
}

/** A running engine. */
export interface Engine {
  /** For the RPC services. */
  readonly context: EngineContext;
  /** For the relay: how to dial a container's agent now, by full ID; undefined if there is no such container. */
  agentTargetOf(containerId: string): AgentTarget | undefined;
  /**
   * Ends watches, waits and streams, and waits for pending writes. Containers continue to run. Driver and state must be
   * closed afterwards.
   */
  close(): Promise<void>;
}

function abandonOthers({ site }: Driver): void {
  if (site.kind === "remote") {
    site.abandon();
  }
}

/** Milliseconds that a closing engine waits for work in progress before it stops waiting for external answers. */
const closePatienceMs = 3_000;

/**
 * Starts an engine: when it resolves, networks exist and containers are recovered.
 *
 * @throws unavailable: the signal has aborted the start; the next one continues what it began
 */
export async function createEngine(options: EngineOptions): Promise<Engine> {
  const logger = componentLogger(options.logger, "engine");
  const shutdown = new AbortController();
  const end = (): void => shutdown.abort(unavailable("the backend is shutting down"));
  const live = new LiveContainers();
  const context: EngineContext = {
    driver: options.driver,
    state: options.state,
    images: options.images,
    clock: options.clock,
    logger,
    facts: await options.driver.machine.facts(),
    live,
    addresses: new AddressBook(),
    volumeLocks: new KeyedLocks(),
    networkLocks: new KeyedLocks(),
    background: new BackgroundWork(logger, shutdown.signal),
    freezes: new BackgroundWork(logger, shutdown.signal),
    followUps: {
      restart: (containerId) => startContainer(context, containerId, "policy"),
      autoRemove: (...container) => removeInBackground(context, ...container),
      removed: (containerId) => removeMadeThrough(context, containerId),
    },
    unclaimed: new Set(),
    shutdown: shutdown.signal,
  };
  const close = async (): Promise<void> => {
    end();
    using _patience = after(options.clock, closePatienceMs, () => {
      abandonOthers(options.driver);
      live.disconnect();
    });
    await context.freezes.settle();
    live.disconnect();
    await context.background.settle();
  };
  using _ending = onAbort(options.signal, end);
  try {
    const start = new StartWork(context);
    const lost = new LostState(context);
    await ensureNetworks(context, start, lost);
    await recoverContainers(context, start, lost);
    await settleLosses(context);
    start.leave();
    keepPartners(context);
    keepPeers(context);
    sweepExecsRegularly(context);
    removeUnstarted(context);
    removeOrphans(context);
    reportShortages(context);
  } catch (error) {
    await close();
    throw error;
  }
  return { context, agentTargetOf: (containerId) => agentTargetOf(context, containerId), close };
}
