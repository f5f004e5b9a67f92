/** The parts that every operation of the engine works with. */
import type { Clock } from "../../common/clock.ts";
import type { Logger } from "../../common/logger.ts";
import type { Driver } from "../driver/driver.ts";
import type { MachineFacts } from "../driver/machine.ts";
import type { State } from "../state/state.ts";
import type { BackgroundWork } from "./work/background.ts";
import type { ImageSource } from "../driver/image-source.ts";
import type { LiveContainers } from "./containers/live/live.ts";
import type { AddressBook } from "./networks/address-book.ts";
import type { KeyedLocks } from "../concurrency/serial.ts";

/**
 * Operations that follow others without a caller; wired in one place, since they lead back to those others.
 */
export interface FollowUps {
  /** Starts a container because its restart policy says so. */
  restart(containerId: string): Promise<void>;
  /** Removes a container that asked for it (`--rm`), behind the answers. */
  autoRemove(containerId: string): void;
}

/** The engine's parts. */
export interface EngineContext {
  readonly driver: Driver;
  readonly state: State;
  readonly images: ImageSource;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly facts: MachineFacts;
  readonly live: LiveContainers;
  readonly addresses: AddressBook;
  readonly volumeLocks: KeyedLocks;
  readonly networkLocks: KeyedLocks;
  readonly background: BackgroundWork;
  readonly followUps: FollowUps;
  /** IDs of containers whose files are there and that the state does not know: a user's prune removes them. */
  readonly unclaimed: Set<string>;
  /** Aborts when the engine closes. */
  readonly shutdown: AbortSignal;
}
