/** Logs and files of containers without an agent, kept by a cloud backend and served on a socket. */
import path from "node:path";

import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import type { AgentTarget } from "../../../agent-client/address.ts";
import type { Clock } from "../../../common/clock.ts";
import { toConnectError } from "../../../common/connect-error.ts";
import { listen } from "../../../common/listen.ts";
import { connectionsOf, cut, plainServer } from "../../server/connections.ts";
import type { FileBudget } from "../../images/file-budget.ts";
import type { NewContainer } from "./created-files.ts";
import { DrainedLogs, type EndedRun } from "./drained-logs.ts";
import { StagedFiles } from "./staged-files.ts";
import type { CloudLog } from "../contract/cloud-log.ts";
import { answering, registerStoredService } from "./stored-service.ts";

/** Dependencies and settings of stored containers. */
export interface StoredContainersOptions {
  readonly stateDir: string;
  readonly runDir: string;
  /** Maximum bytes to keep of one container's log. */
  readonly logDrainMax: number;
  readonly cloud: CloudLog;
  /** The agent of a running container; undefined if it has ended or is unknown. */
  readonly liveAgent: (containerId: string) => AgentTarget | undefined;
  /** Whether a container has never been started; undefined if there is no such container. */
  readonly isNew: (containerId: string) => boolean | undefined;
  /** Whether a start of a container is in progress. */
  readonly isStarting: (containerId: string) => boolean;
  /** A container's working directory. */
  readonly workingDirectoryOf: (containerId: string) => string;
  /** Opens the layers and mounts of a container that has not run. */
  readonly newContainer: (containerId: string, signal: AbortSignal) => Promise<NewContainer>;
  /** Room for the files of containers that have not run, while they are looked at; default: that of all. */
  readonly budget?: FileBudget;
  /** The backend's name, for messages. */
  readonly backend: string;
  readonly clock: Clock;
}

/** The stored containers of a backend. */
export interface StoredContainers {
  /** The unix socket on which they are served. */
  readonly socket: string;
  /** Whether the cloud keeps logs, so that one that cannot be copied can be read there. */
  readonly isLogKept: boolean;
  /** Sends files staged for a container to its agent. Idempotent. */
  applyStaged(containerId: string, agent: AgentTarget, signal: AbortSignal): Promise<void>;
  /** Removes files staged for a container that has run since. Idempotent. */
  settleStaged(containerId: string): Promise<void>;
  /** Copies the log of an ended container from its agent, unless a signal ends that before. Idempotent. */
  drain(containerId: string, run: EndedRun, ending: AbortSignal): Promise<void>;
  /**
   * Records that a run's log can no longer be copied: unless it has been, the cloud's is shown from now on, or the run counts
   * as lost if there is none. Idempotent.
   */
  leaveToCloud(containerId: string, run: EndedRun | undefined): Promise<void>;
  /** Records that a run has begun nothing, and so has no log that could be lost. Idempotent. */
  forgetLoss(containerId: string, generation: bigint): Promise<void>;
  /** Removes everything of a container. */
  remove(containerId: string): Promise<void>;
  close(): Promise<void>;
}

/** The agent's own status codes pass unchanged; our errors are converted as everywhere. */
const convertErrors: Interceptor = (next) => async (request) => {
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

/** Opens and serves the stored containers. */
export async function openStoredContainers(options: StoredContainersOptions): Promise<StoredContainers> {
  const drained = new DrainedLogs(path.join(options.stateDir, "logs"), options);
  const staged = new StagedFiles(path.join(options.stateDir, "staged"), options);
  await drained.open();
  await staged.open();
  const { cloud, liveAgent, isNew, newContainer, budget, backend, clock } = options;
  const handler = connectNodeAdapter({
    routes: (router) =>
      registerStoredService(router, {
        drained,
        staged,
        cloud,
        liveAgent,
        isNew,
        newContainer,
        budget,
        backend,
        clock,
      }),
    interceptors: [convertErrors],
    grpcWeb: false,
    connect: false,
  });
  const server = plainServer(
    (request, response) => answering.run(response, () => handler(request, response)),
    new Set(),
  );
  const connections = connectionsOf(server);
  const socket = path.join(options.runDir, "stored.sock");
  await listen(server, `unix://${socket}`, { mode: 0o600, serves: "stored containers" });
  return {
    socket,
    isLogKept: cloud.isKept,
    applyStaged: (containerId, agent, signal) => staged.apply(containerId, agent, signal),
    settleStaged: (containerId) => staged.settle(containerId),
    drain: (containerId, run, ending) => drained.drain(containerId, run, ending),
    leaveToCloud: (containerId, run) => drained.leaveToCloud(containerId, run),
    forgetLoss: (containerId, generation) => drained.forgetLoss(containerId, generation),
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
