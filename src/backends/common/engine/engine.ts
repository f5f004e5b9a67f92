/**
 * The engine: everything Docker means, over a driver. Decisions are pure functions (create/, machine/, mounts/, network/,
 * list/, events/); what is done stands in operations/ and exec/; services/ puts both on the wire.
 */
import type { Clock } from "../../../common/clock.ts";
import type { AgentTarget } from "../../../agent-client/address.ts";
import { unavailable } from "../../../common/errors.ts";
import { componentLogger, type Logger } from "../../../common/logger.ts";
import type { Driver } from "../driver.ts";
import type { State } from "../state/state.ts";
import { LostState } from "./adoption.ts";
import { agentTargetOf } from "./agent-endpoint.ts";
import { BackgroundWork } from "./background.ts";
import type { EngineContext } from "./context.ts";
import { sweepExecsRegularly } from "./exec/exec-remains.ts";
import type { ImageSource } from "./image-source.ts";
import { LiveContainers } from "./live.ts";
import { AddressBook } from "./network/address-book.ts";
import { keepPartners } from "./network/partner-pushes.ts";
import { removeInBackground } from "./operations/remove-container.ts";
import { startContainer } from "./operations/start-container.ts";
import { ensureNetworks, recoverContainers } from "./recovery.ts";
import { KeyedLocks } from "./serial.ts";
import { StartWork } from "./start-work.ts";

/** What an engine works with; it owns none of them. */
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

/** What goes on when the engine ends may take so long, then others are waited for no longer. */
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
    shutdown: shutdown.signal,
  };
  const close = async (): Promise<void> => {
    end();
    live.disconnect();
    const abandon = setTimeout(() => options.driver.abandon?.(), closePatienceMs);
    await context.background.settle();
    clearTimeout(abandon);
  };
  options.signal?.addEventListener("abort", end, { once: true });
  try {
    if (options.signal?.aborted === true) {
      end();
    }
    const start = new StartWork(context);
    const lost = new LostState(context);
    await ensureNetworks(context, start, lost);
    await recoverContainers(context, start, lost);
    start.leave();
    keepPartners(context);
    sweepExecsRegularly(context);
  } catch (error) {
    await close();
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", end);
  }
  return { context, agentTargetOf: (containerId) => agentTargetOf(context, containerId), close };
}
