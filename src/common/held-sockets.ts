/**
 * Listening sockets that outlive the process which serves them: the supervisor holds them, so that a client which
 * connects between a crash and the next start waits in the socket's queue instead of failing.
 */
import type { Server, Socket } from "node:net";

/** A socket that somebody listens on, or did. */
export interface HeldSocket {
  /** As configured. */
  readonly address: string;
  /** As listened on, with the port where 0 was asked for. */
  readonly boundAddress: string;
  /** Device and inode of a unix socket's file; absent for TCP. */
  readonly file?: string;
}

/** A socket that was handed to this process. */
export interface InheritedSocket extends HeldSocket {
  readonly descriptor: number;
}

/** Sockets that `listen` takes over, and the holder of those that it makes. */
export interface HeldSockets {
  readonly inherited: readonly InheritedSocket[];
  /** Has the socket of a listener held from now on. @param listener another thread's is a socket of the same descriptor */
  hold(socket: HeldSocket, listener: Server | Socket): void;
}

/** A builder that is to be there. */
export interface BuilderRequest {
  /** Only one that has been used: where nothing was ever built, there is nothing to ask it. */
  readonly onlyIfUsed: boolean;
  /** Told once if it has to be compiled first, which takes minutes. */
  readonly onCompile?: () => void;
}

/** State that a process takes over from its predecessor at a restart, by way of its supervisor. */
export interface Supervision extends HeldSockets {
  /**
   * Execs whose streams were cut when an earlier process died. Their clients ask for the exit code next, and would be told
   * of a process that ended well, or that has none yet, which they take for 0.
   */
  readonly cutExecs: readonly string[];
  /** The stream of an exec begins; disposing says that it was given to its client to the end. */
  streamingExec(execId: string): Disposable | undefined;
  /**
   * Has the supervisor start the builder unless it runs.
   *
   * @returns the path of its socket; undefined: it was never used
   * @throws SockerlessError of kind `system`: it cannot be compiled or does not start
   */
  startBuilder(request: BuilderRequest): Promise<string | undefined>;
}
