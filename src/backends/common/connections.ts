/** Connections of a backend's callers: their HTTP/2 sessions, and their end. */
import type { ServerHttp2Session } from "node:http2";
import type { Server, Socket } from "node:net";

/** Frames and windows of the size that bulk streams want. */
export const http2Settings = {
  settings: { maxFrameSize: 1024 * 1024, initialWindowSize: 4 * 1024 * 1024, maxConcurrentStreams: 10_000 },
  maxSessionMemory: 64,
} as const;

/** How long calls under way may take after the listener closed. */
const drainMs = 5_000;

/** Has a set hold a session while that is open. */
export function track(session: ServerHttp2Session, sessions: Set<ServerHttp2Session>): void {
  sessions.add(session);
  session.on("error", () => {}); // its streams tell their callers
  session.once("close", () => sessions.delete(session));
}

/** Stops accepting, lets calls under way end for a bounded time, then cuts them. */
export async function closeServer(
  server: Server,
  sessions: ReadonlySet<ServerHttp2Session>,
  connections: ReadonlySet<Socket>,
): Promise<void> {
  const closed = Promise.withResolvers<void>();
  server.close(() => closed.resolve());
  for (const session of sessions) {
    session.close();
  }
  const limit = setTimeout(() => cut(connections), drainMs);
  await closed.promise;
  clearTimeout(limit);
}

/** Cuts connections. */
export function cut(connections: ReadonlySet<Socket>): void {
  for (const connection of connections) {
    connection.destroy();
  }
}
