/**
 * Logs and files of containers that have no agent, kept by a cloud backend, and the socket on which they are
 * served.
 */
import path from "node:path";

import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import type { AgentTarget } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { toConnectError } from "../../../common/connect-error.ts";
import { listen } from "../../../common/listen.ts";
import { connectionsOf, cut, plainServer } from "../../server/connections.ts";
import type { NewContainer } from "./created-files.ts";
import { DrainedLogs, type EndedRun } from "./drained-logs.ts";
import { StagedFiles } from "./staged-files.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { registerStoredService } from "./stored-service.ts";

/** Parts and settings of the stored containers. */
export interface StoredContainersOptions {
  readonly stateDir: string;
  readonly runDir: string;
  /** Most bytes of one container's log that are kept. */
  readonly logDrainMax: number;
  readonly cloud: CloudLog;
  /** The agent of a container that runs; undefined: it has ended, or is not known. */
  readonly liveAgent: (containerId: string) => AgentTarget | undefined;
  /** Whether a container has never been started; undefined: there is no such container. */
  readonly isNew: (containerId: string) => boolean | undefined;
  /** Whether a start of a container is under way. */
  readonly isStarting: (containerId: string) => boolean;
  /** The directory that a container's process begins in. */
  readonly workingDirectoryOf: (containerId: string) => string;
  /** Makes the layers and mounts of a container that has not run readable. */
  readonly newContainer: (containerId: string, signal: AbortSignal) => Promise<NewContainer>;
  /** The backend's name. */
  readonly backend: string;
  readonly clock: Clock;
}

/** The stored containers of a backend. */
export interface StoredContainers {
  /** The unix socket on which they are served. */
  readonly socket: string;
  /** Whether the cloud keeps logs, so that one which cannot be taken is read there. */
  readonly isLogKept: boolean;
  /** Gives files that were put into a container before its start to its agent. May be repeated. */
  applyStaged(containerId: string, agent: AgentTarget, signal: AbortSignal): Promise<void>;
  /** Forgets files that were put into a container which has run since. May be repeated. */
  settleStaged(containerId: string): Promise<void>;
  /** Takes the log of a container that has ended from its agent. May be repeated. */
  drain(containerId: string, run: EndedRun): Promise<void>;
  /** The log of a run cannot be taken any more: unless it was, the cloud's is shown from now on. May be repeated. */
  leaveToCloud(containerId: string, run: EndedRun | undefined): Promise<void>;
  /** The container is gone. */
  remove(containerId: string): Promise<void>;
  close(): Promise<void>;
}

/** The agent's own status codes pass; our errors are told as everywhere. */
const tellErrors: Interceptor = (next) => async (request) => {
  const told = (error: unknown): Error => (error instanceof ConnectError ? error : toConnectError(error));
  async function* each<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
    try {
      yield* messages;
    } catch (error) {
      throw told(error);
    }
  }
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: each(response.message) } : response;
  } catch (error) {
    throw told(error);
  }
};

/** Opens what is there and serves it. */
export async function openStoredContainers(options: StoredContainersOptions): Promise<StoredContainers> {
  const drained = new DrainedLogs(path.join(options.stateDir, "logs"), options);
  const staged = new StagedFiles(path.join(options.stateDir, "staged"), options);
  await drained.open();
  await staged.open();
  const { cloud, liveAgent, isNew, newContainer, backend, clock } = options;
  const handler = connectNodeAdapter({
    routes: (router) =>
      registerStoredService(router, {
        drained,
        staged,
        cloud,
        liveAgent,
        isNew,
        newContainer,
        backend,
        clock,
      }),
    interceptors: [tellErrors],
    grpcWeb: false,
    connect: false,
  });
  const server = plainServer(handler, new Set());
  const connections = connectionsOf(server);
  const socket = path.join(options.runDir, "stored.sock");
  await listen(server, `unix://${socket}`, { mode: 0o600, serves: "stored containers" });
  return {
    socket,
    isLogKept: cloud.isKept,
    applyStaged: (containerId, agent, signal) => staged.apply(containerId, agent, signal),
    settleStaged: (containerId) => staged.settle(containerId),
    drain: (containerId, run) => drained.drain(containerId, run),
    leaveToCloud: (containerId, run) => drained.leaveToCloud(containerId, run),
    async remove(containerId) {
      await drained.remove(containerId);
      await staged.remove(containerId);
    },
    async close() {
      const closed = Promise.withResolvers<void>();
      server.close(() => closed.resolve());
      cut(connections);
      await closed.promise;
    },
  };
}
