/** What every operation of the engine works with. */
import type { Clock } from "../../../common/clock.ts";
import type { Logger } from "../../../common/logger.ts";
import type { Driver, MachineFacts } from "../driver.ts";
import type { State } from "../state/state.ts";
import type { BackgroundWork } from "./background.ts";
import type { ImageSource } from "./image-source.ts";
import type { LiveContainers } from "./live.ts";
import type { AddressBook } from "./network/address-book.ts";
import type { KeyedLocks } from "./serial.ts";

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
  readonly background: BackgroundWork;
  /** Aborts when the engine closes. */
  readonly shutdown: AbortSignal;
}
