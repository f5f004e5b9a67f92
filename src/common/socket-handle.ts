/** The handle beneath a listening socket, by which others get its descriptor and nothing begins to accept connections. */
import type { SendHandle } from "node:child_process";
import type { Server, Socket } from "node:net";
import type { Server as TlsServer } from "node:tls";

/** A handle that a parent process can be sent as it is. */
export type ListeningHandle = SendHandle & { readonly fd: number };

/** The handle of a server that listens, or of a socket that has a listener's descriptor. */
export function handleOf(listener: Server | TlsServer | Socket): ListeningHandle {
  return (listener as unknown as { readonly _handle: ListeningHandle })._handle;
}
