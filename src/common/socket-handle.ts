/** The handle beneath a listener or a connection, by which another process gets it and nothing begins to read it. */
import type { SendHandle } from "node:child_process";

/** A handle that another process can be sent as it is. */
export type SocketHandle = SendHandle & {
  readonly fd: number;
  readStop(): void;
  readStart(): void;
  close(): void;
};

/** The handle of a server that listens, or of a socket; undefined once it is closed. */
export function handleOf(owner: object): SocketHandle | undefined {
  return (owner as { readonly _handle?: SocketHandle | null })._handle ?? undefined;
}
