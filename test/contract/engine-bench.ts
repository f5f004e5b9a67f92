/** An engine on a {@link MemoryMachine}, called over the wire as a frontend calls it. */
import { randomUUID } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Http2Server } from "node:http2";
import { once } from "node:events";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach } from "node:test";

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { connectNodeAdapter, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { createAgentClient } from "../../src/agent-client/client.ts";
import { createEngine, type Engine } from "../../src/backends/engine/engine.ts";
import type { ImageSource } from "../../src/backends/driver/image-source.ts";
import { guardInnerSockets } from "../../src/backends/engine/inner/guard.ts";
import { registerServices } from "../../src/backends/engine/services/register.ts";
import { openState, type State } from "../../src/backends/state/state.ts";
import { type Clock, systemClock } from "../../src/common/clock.ts";
import { toConnectError } from "../../src/common/connect-error.ts";
import { notFound } from "../../src/common/errors.ts";
import { createLogger } from "../../src/common/logger.ts";
import { actingTransport } from "../../src/frontend/inner-sockets/acting-transport.ts";
import { ContainerConfigSchema, HealthConfigSchema } from "../../src/gen/sockerless/backend/v1/config_pb.ts";
import {
  ContainerService,
  type CreateContainerRequestSchema,
} from "../../src/gen/sockerless/backend/v1/container_pb.ts";
import { type AgentEndpoint, AgentReach } from "../../src/gen/sockerless/backend/v1/endpoint_pb.ts";
import { type Event, EventsService } from "../../src/gen/sockerless/backend/v1/events_pb.ts";
import { ExecService } from "../../src/gen/sockerless/backend/v1/exec_pb.ts";
import { ImageService } from "../../src/gen/sockerless/backend/v1/image_pb.ts";
import { NetworkService } from "../../src/gen/sockerless/backend/v1/network_pb.ts";
import { SystemService } from "../../src/gen/sockerless/backend/v1/system_pb.ts";
import { VolumeService } from "../../src/gen/sockerless/backend/v1/volume_pb.ts";
import { ImageRecordSchema } from "../../src/gen/sockerless/state/v1/state_pb.ts";
import { until, untilTrue } from "../support/until.ts";
import { MemoryMachine } from "./memory-machine.ts";

/** Access of a frontend on the same machine. */
export const localAccess = { reach: AgentReach.LOCAL };

interface BenchOptions {
  /** Containers run somewhere else. */
  readonly cloud?: boolean;
  /** The backend's; the machine's unless said. */
  readonly clock?: Clock;
  /** Sets up the machine before the backend starts. */
  readonly prepare?: (machine: MemoryMachine) => void;
}

/** An engine and clients of its services. */
export class EngineBench implements AsyncDisposable {
  machine!: MemoryMachine;
  #directory!: string;
  #clock!: Clock;
  #running: Running | undefined;

  private constructor() {}

  static async start(options: BenchOptions = {}): Promise<EngineBench> {
    const bench = new EngineBench();
    await bench.begin(options);
    return bench;
  }

  /** A bench that each test of the suite around begins anew. */
  static ofEach(options: () => BenchOptions = () => ({})): EngineBench {
    const bench = new EngineBench();
    beforeEach(() => bench.begin(options()));
    afterEach(() => bench.close());
    return bench;
  }

  /** Begins anew once it is closed. */
  async begin({ cloud = false, clock = systemClock, prepare = () => {} }: BenchOptions = {}): Promise<void> {
    this.#directory = mkdtempSync(path.join(tmpdir(), "engine-"));
    this.#clock = clock;
    this.machine = new MemoryMachine(this.#directory);
    this.machine.cloud = cloud;
    prepare(this.machine);
    await this.startBackend();
  }

  get containers(): Client<typeof ContainerService> {
    return this.#backend().containers;
  }

  get execs(): Client<typeof ExecService> {
    return this.#backend().execs;
  }

  get events(): Client<typeof EventsService> {
    return this.#backend().events;
  }

  get networks(): Client<typeof NetworkService> {
    return this.#backend().networks;
  }

  get volumes(): Client<typeof VolumeService> {
    return this.#backend().volumes;
  }

  get system(): Client<typeof SystemService> {
    return this.#backend().system;
  }

  /** To the backend's services. */
  get transport(): Transport {
    return this.#backend().transport;
  }

  /** Clients for whom a frontend asks that has taken their connections at a container's Docker socket. */
  acting(containerId: string): ReturnType<typeof clientsOver> {
    return clientsOver(actingTransport(this.#backend().transport, containerId));
  }

  get engine(): Engine {
    return this.#backend().engine;
  }

  get state(): State {
    return this.#backend().state;
  }

  /** Makes a container of the image `shell` that runs a script. */
  async createScript(
    script: string,
    more: MessageInitShape<typeof CreateContainerRequestSchema> = {},
  ): Promise<string> {
    const request = {
      ...more,
      config: { image: "shell", cmd: { values: ["sh", "-c", script] }, ...more.config },
    } as MessageInitShape<typeof CreateContainerRequestSchema>;
    const { id } = await this.containers.createContainer(request);
    return id;
  }

  /** Makes and starts it. */
  async runScript(
    script: string,
    more: MessageInitShape<typeof CreateContainerRequestSchema> = {},
  ): Promise<string> {
    const id = await this.createScript(script, more);
    await this.containers.startContainer({ container: id });
    return id;
  }

  /** Runs a container until its SIGTERM, at which it runs a script. @returns its ID, once a signal would do that */
  async runUntilTerm(
    script: string,
    more: MessageInitShape<typeof CreateContainerRequestSchema> = {},
  ): Promise<string> {
    const ready = path.join(this.#directory, randomUUID());
    const waiting = `: >'${ready}'; while :; do sleep 0.1; done`;
    const id = await this.runScript(`trap '${script}' TERM; ${waiting}`, more);
    await untilTrue(() => existsSync(ready));
    return id;
  }

  /** The exit code, once the wait is over. */
  async wait(container: string, condition = 0): Promise<number> {
    for await (const { message } of this.containers.waitContainer({ container, condition })) {
      if (message.case === "exited") {
        return Number(message.value.exitCode);
      }
    }
    throw new Error("the wait was cut");
  }

  /** Events since the beginning that pass the filters, as `type action`. */
  async eventNames(filters: Readonly<Record<string, readonly string[]>> = {}): Promise<string[]> {
    return (await this.pastEvents(filters)).map((event) => `${event.type} ${event.action}`);
  }

  /** Events since the beginning that pass the filters. */
  async pastEvents(filters: Readonly<Record<string, readonly string[]>> = {}): Promise<Event[]> {
    const past: Event[] = [];
    const request = {
      sinceUnixNs: 0n,
      untilUnixNs: systemClock.nowNs(),
      filters: Object.fromEntries(
        Object.entries(filters).map(([key, values]) => [key, { values: [...values] }]),
      ),
    };
    let hasEnded = false;
    for await (const { message } of this.events.subscribeEvents(request)) {
      if (message.case === "event") {
        past.push(message.value);
      }
      hasEnded = message.case === "end";
    }
    if (!hasEnded) {
      throw new Error("the events were cut");
    }
    return past;
  }

  /**
   * Opens the session that the frontend would open, and reads it to its end.
   *
   * @param onStarted called once the agent says that the session is in place
   */
  async session(
    endpoint: AgentEndpoint | undefined,
    open: { readonly openExec: object } | { readonly openAttach: object },
    onStarted?: () => void,
  ): Promise<{ readonly output: string; readonly exitCode: number | undefined }> {
    if (endpoint?.address.case !== "unixPath") {
      throw new Error("the endpoint is no unix socket");
    }
    const agent = createAgentClient({ kind: "unix", path: endpoint.address.value });
    const [[name, value]] = Object.entries(open) as [["openExec" | "openAttach", object]];
    async function* requests() {
      yield { message: { case: name, value } } as never;
    }
    let output = "";
    let exitCode: number | undefined;
    try {
      for await (const { message } of agent.client.session(requests())) {
        if (message.case === "stdout" || message.case === "stderr") {
          output += new TextDecoder().decode(message.value.data);
        } else if (message.case === "exit") {
          exitCode = message.value.code;
        } else if (message.case === "started") {
          onStarted?.();
        }
      }
    } finally {
      agent.close();
    }
    return { output, exitCode };
  }

  /** Ends the backend's process, as far as one can within a process; containers go on. */
  async stopBackend(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await running?.close();
  }

  /**
   * @param breaksAt from where on its state writes nothing
   * @param signal ends the start
   */
  async startBackend(breaksAt?: CrashPoint, signal?: AbortSignal): Promise<void> {
    this.#running = await startBackend(this.#directory, this.machine, this.#clock, breaksAt, signal);
  }

  /** Forgets everything that a backend has written; the backend must be stopped. */
  emptyState(): void {
    rmSync(path.join(this.#directory, "state"), { recursive: true });
  }

  /** Ends the backend as a crash does, once its driver has done what it was about to do; containers go on. */
  async crashBackend(): Promise<void> {
    const running = this.#running;
    this.#running = undefined;
    await until(() => running?.calls.underWay === 0 || undefined);
    await running?.crash();
  }

  /** Ends all; what the machine is still busy with goes on. */
  async close(): Promise<void> {
    this.machine.busyLaunches?.resolve();
    this.machine.busyReleases?.resolve();
    await this.stopBackend();
    await this.machine.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #backend(): Running {
    if (this.#running === undefined) {
      throw new Error("the backend is stopped");
    }
    return this.#running;
  }
}

type Running = Awaited<ReturnType<typeof startBackend>>;

async function startBackend(
  directory: string,
  machine: MemoryMachine,
  machineClock: Clock,
  breaksAt: CrashPoint | undefined,
  signal: AbortSignal | undefined,
) {
  const crashed = new AbortController();
  const clock = stoppedBy(crashed.signal, machineClock);
  const durable = await openState({ directory: path.join(directory, "state"), clock });
  const state = breaksAt === undefined ? durable : breakingState(durable, breaksAt);
  const calls = new CallsUnderWay();
  const driver = machine.driver();
  const socket = path.join(directory, "backend.sock");
  const engine = await createEngine({
    driver: calls.counted(driver),
    state,
    images: testImages(state),
    clock,
    logger: createLogger({ level: "error", process: "test" }),
    ...(signal === undefined ? {} : { signal }),
  }).catch(async (error: unknown) => {
    await durable.close();
    throw error;
  });
  const convertErrors: Interceptor = (next) => async (request) => {
    try {
      const answer = await next(request);
      return answer.stream ? { ...answer, message: convertStreamErrors(answer.message) } : answer;
    } catch (error) {
      throw toConnectError(error);
    }
  };
  const server: Http2Server = createServer(
    connectNodeAdapter({
      routes: (router) => {
        registerServices(router, engine, {
          insecureRegistries: [],
          stateDirectory: directory,
          authenticate: () => Promise.reject(new Error("it has no registry")),
        });
        router.service(ImageService, {}); // The guard answers before it, or refuses.
      },
      interceptors: [convertErrors, guardInnerSockets(engine.context)],
    }),
  );
  server.listen(socket);
  await once(server, "listening");
  const sessions = new Http2SessionManager("http://backend", undefined, {
    createConnection: () => createConnection(socket),
  });
  const transport = createGrpcTransport({ baseUrl: "http://backend", sessionManager: sessions });
  return {
    state,
    engine,
    calls,
    transport,
    ...clientsOver(transport),
    close: async () => {
      await engine.close();
      sessions.abort();
      server.close();
      await driver.close();
      await durable.close();
    },
    /** Ends without a word: a call that hangs at the broken state hangs for ever. */
    crash: async () => {
      crashed.abort();
      engine.context.live.disconnect();
      sessions.abort();
      server.close();
      await durable.close();
    },
  };
}

function clientsOver(transport: Transport) {
  return {
    containers: createClient(ContainerService, transport),
    execs: createClient(ExecService, transport),
    events: createClient(EventsService, transport),
    networks: createClient(NetworkService, transport),
    volumes: createClient(VolumeService, transport),
    system: createClient(SystemService, transport),
  };
}

/** The clock of a backend that may crash: what sleeps then never wakes. */
function stoppedBy(crash: AbortSignal, clock: Clock): Clock {
  return {
    nowMs: () => clock.nowMs(),
    nowNs: () => clock.nowNs(),
    sleep: (ms, signal) =>
      clock
        .sleep(ms, signal === undefined ? crash : AbortSignal.any([signal, crash]))
        .catch((error: unknown) => (crash.aborted ? new Promise<never>(() => {}) : Promise.reject(error))),
  };
}

/** How many calls of an object, and of the objects that it consists of, have not been answered. */
class CallsUnderWay {
  underWay = 0;

  counted<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value === "object" && value !== null) {
          return this.counted(value);
        }
        return typeof value === "function"
          ? (...args: unknown[]) => this.#count(value.apply(target, args))
          : value;
      },
    });
  }

  #count(answer: unknown): unknown {
    if (answer instanceof Promise) {
      this.underWay += 1;
      const answered = (): void => {
        this.underWay -= 1;
      };
      answer.then(answered, answered);
    }
    return answer;
  }
}

/** When a backend dies, as far as its state can tell. */
export interface CrashPoint {
  /** How many commits are still written. */
  readonly commits: number;
  /** Called with the first that is not. */
  readonly reached: () => void;
}

/** A state whose commits never end, and change nothing, from some commit on. */
function breakingState(durable: State, { commits, reached }: CrashPoint): State {
  let left = commits;
  return new Proxy(durable, {
    get: (target, property) => {
      if (property !== "commit") {
        const value: unknown = Reflect.get(target, property, target);
        return typeof value === "function" ? value.bind(target) : value;
      }
      return (describe: Parameters<State["commit"]>[0]): Promise<void> => {
        left -= 1;
        if (left >= 0) {
          return target.commit(describe);
        }
        reached();
        return new Promise(() => {});
      };
    },
  });
}

async function* convertStreamErrors<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toConnectError(error);
  }
}

/** One image: `shell`, whose default command is `true`; it has one volume. */
function testImages(state: State): ImageSource {
  const id = `sha256:${"5".repeat(64)}`;
  const config = create(ContainerConfigSchema, {
    cmd: { values: ["true"] },
    env: ["FROM_IMAGE=1", "PATH=/usr/local/bin:/usr/bin:/bin"],
    labels: { vendor: "test" },
  });
  const known = new Map([
    ["shell", config],
    ["with-check", { ...config, healthcheck: create(HealthConfigSchema, { test: ["CMD", "true"] }) }],
    ["with-volume", { ...config, volumes: ["/data"] }],
  ]);
  return {
    resolve: async (reference) => {
      const found = known.get(reference);
      if (found === undefined) {
        throw notFound(`No such image: ${reference}:latest`);
      }
      const record = create(ImageRecordSchema, { id, names: [`docker.io/library/${reference}:latest`] });
      if (!state.images.has(id)) {
        await state.commit((change) => change.images.put(record));
      }
      return { record, config: found };
    },
    idOf: (reference) => (known.has(reference) ? id : undefined),
    descentOf: (ids) => new Set(ids),
    collectUnneeded: async () => {},
    hasUnneeded: async () => false,
    makeReady: async () => {},
    makeRunnable: async () => {},
    unpackAnew: async () => false,
    commit: async () => ({ id, diffIds: [], changesSize: 0 }),
    adopt: async ({ record }) => {
      if (record !== undefined) {
        await state.commit((change) => change.images.put(record));
      }
    },
    openLayers: async () => ({ layers: [], [Symbol.asyncDispose]: async () => {} }),
    forgetUnusedLayers: async () => {},
    layersSize: () => 0n,
    listWithSizes: async () => [],
  };
}
