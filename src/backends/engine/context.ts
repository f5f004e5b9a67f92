/** Dependencies of all operations of the engine. */
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

/** Operations triggered by others without a caller; wired in one place to avoid import cycles. */
export interface FollowUps {
  /** Starts a container by its restart policy. */
  restart(containerId: string): Promise<void>;
  /** Removes an auto-remove container (`--rm`) in the background, after a while where nobody waits for its removal. */
  autoRemove(containerId: string, afterMs?: number): void;
  /** Removes what was made through the Docker socket of a container that is removed, in the background. */
  removed(containerId: string): void;
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
  /** Pauses of containers for commits, which the engine ends before its links to agents. */
  readonly freezes: BackgroundWork;
  readonly followUps: FollowUps;
  /** IDs of containers with files that the state does not know: removed by a user's prune. */
  readonly unclaimed: Set<string>;
  /** Aborts when the engine closes. */
  readonly shutdown: AbortSignal;
}
