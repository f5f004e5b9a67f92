/** A started frontend or backend, as `startFrontend` and `startBackend` answer it. */
export interface RunningService {
  /** The addresses that are really listened on, where they differ from the configuration's (port 0). */
  readonly addresses?: readonly string[];
  /**
   * Reads again what can change while it serves: the certificates of its TCP listeners. A failure leaves all
   * as it was. Absent: there is nothing of the kind.
   *
   * @returns what was read again, for the log
   * @throws SockerlessError that names the file which cannot be read
   */
  reload?(): Promise<string>;
  /** Stops accepting, lets what is under way end or cuts it, and releases everything; bounded in time. */
  close(): Promise<void>;
}
