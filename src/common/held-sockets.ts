/**
 * Listening sockets that outlive their process: the supervisor keeps them open, so that a client which connects between
 * a crash and the restart waits in the socket's queue instead of failing.
 */
import { lstatSync } from "node:fs";
import type { Server, Socket } from "node:net";

import type { SocketHandle } from "./socket-handle.ts";

/** A socket with a listener, or that had one. */
export interface HeldSocket {
  /** The address as configured. */
  readonly address: string;
  /** The address in use, with the actual port in place of 0. */
  readonly boundAddress: string;
  /** Device and inode of a unix socket's file; absent for TCP. */
  readonly file?: string;
  /** The service manager made it, and keeps its file. */
  readonly isOfServiceManager?: true;
}

/** Unique identity of the file at a path; undefined if there is none. */
export function socketFileOf(path: string): string | undefined {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? undefined : `${stat.dev}:${stat.ino}:${stat.birthtimeMs}`;
}

/** A socket that this process keeps open, not served. */
export interface KeptSocket {
  readonly socket: HeldSocket;
  readonly handle: Pick<SocketHandle, "fd" | "close">;
}

/** A socket passed to this process. */
export interface InheritedSocket extends HeldSocket {
  readonly descriptor: number;
}

/** Sockets for `listen` to take over, and the keeper of the ones it creates. */
export interface HeldSockets {
  readonly inherited: readonly InheritedSocket[];
  /**
   * Passes a listener's socket to the supervisor, which keeps it open.
   * @param listener for another thread's listener, a socket with the same descriptor
   */
  hold(socket: HeldSocket, listener: Server | Socket): void;
}

/** A request for a running builder. */
export interface BuilderRequest {
  /** Only if it was used before: where nothing was ever built, there is nothing to ask the builder. */
  readonly onlyIfUsed: boolean;
  /** Called once if the builder must be compiled first, which takes minutes. */
  readonly onCompile?: () => void;
}

/** State that a process takes over from its predecessor at a restart, through its supervisor. */
export interface Supervision extends HeldSockets {
  /**
   * Execs whose streams were cut by the death of an earlier process. Their clients ask for the exit code next; without
   * this they would see a process that ended well, or one with no exit code yet, which they take for 0.
   */
  readonly cutExecs: readonly string[];
  /** Marks an exec's stream as begun; disposing marks that its client has received all of it. */
  streamingExec(execId: string): Disposable | undefined;
  /**
   * Makes the supervisor start the builder unless it is running.
   *
   * @returns the path of its socket; undefined if it was never used
   * @throws SockerlessError of kind `system` if it cannot be compiled or started
   */
  startBuilder(request: BuilderRequest): Promise<string | undefined>;
}
