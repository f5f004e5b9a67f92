/** A started frontend or backend, as returned by `startFrontend` and `startBackend`. */
export interface RunningService {
  /** The addresses in use, if they differ from the configured ones (port 0). */
  readonly addresses?: readonly string[];
  /**
   * Reloads what can change while it serves: the certificates of its TCP listeners. A failure changes nothing. Absent
   * if there is nothing to reload.
   *
   * @returns a description of what was reloaded, for the log
   * @throws SockerlessError that names the file which cannot be read
   */
  reload?(): Promise<string>;
  /** Stops accepting, lets current work finish or cuts it, and releases everything; takes a bounded time. */
  close(): Promise<void>;
}
