/** What `startFrontend` and `startBackend` give to the process that runs them. */
export interface RunningService {
  /** The addresses that are really listened on, where they differ from the configuration's (port 0). */
  readonly addresses?: readonly string[];
  /** Stops accepting, lets what is under way end or cuts it, and releases everything; bounded in time. */
  close(): Promise<void>;
}
