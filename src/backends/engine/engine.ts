/**
 * The engine: everything Docker means, over a driver. A folder holds one subject (containers, execs, networks, volumes,
 * events, recovery); the pure decisions of a subject stand in its `decisions/`, what is done stands beside that. services/
 * puts all of it on the wire; work/ is how things are done behind answers and again.
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
import { removeInBackground } from "./containers/remove/remove-container.ts";
import { removeUnstarted } from "./containers/remove/remove-unstarted.ts";
import { startContainer } from "./containers/start/start-container.ts";
import { settleLosses } from "./recovery/losses.ts";
import { ensureNetworks, recoverContainers } from "./recovery/recovery.ts";
import { tellShortages } from "./volumes/shortages.ts";
import { KeyedLocks } from "../concurrency/serial.ts";
import { StartWork } from "./recovery/start-work.ts";
import { onAbort } from "../../common/on-abort.ts";
import { after } from "../../common/timers.ts";

/** The parts that an engine works with; it owns none of them. */
export interface EngineOptions {
  readonly driver: Driver;
  readonly state: State;
  readonly images: ImageSource;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Ends the start, which may have to wait for others. */
  readonly signal?: AbortSignal;
}

/** A running engine. */
export interface Engine {
  /** For the services. */
  readonly context: EngineContext;
  /** For the relay: how the agent of a container (full ID) is dialled now; undefined where there is no such container. */
  agentTargetOf(containerId: string): AgentTarget | undefined;
  /**
   * Ends watches, waits and streams, and waits for what is being written. Containers go on. The driver and the state
   * are to be closed afterwards.
   */
  close(): Promise<void>;
}

function abandonOthers({ site }: Driver): void {
  if (site.kind === "remote") {
    site.abandon();
  }
}

/** Time that work under way may take when the engine closes, before it stops waiting for others' answers. */
const closePatienceMs = 3_000;

/**
 * Starts an engine: networks are there and containers recovered when it resolves.
 *
 * @throws unavailable: the signal has ended the start; what it had begun is taken up by the next
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
    followUps: {
      restart: (containerId) => startContainer(context, containerId, "policy"),
      autoRemove: (containerId) => removeInBackground(context, containerId),
    },
    unclaimed: new Set(),
    shutdown: shutdown.signal,
  };
  const close = async (): Promise<void> => {
    end();
    live.disconnect();
    using _patience = after(options.clock, closePatienceMs, () => abandonOthers(options.driver));
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
    tellShortages(context);
  } catch (error) {
    await close();
    throw error;
  }
  return { context, agentTargetOf: (containerId) => agentTargetOf(context, containerId), close };
}
