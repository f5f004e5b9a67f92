/**
 * An agent for tests: AgentService at the wire, over plain child processes of the test. It does what the contract says
 * of the main process, execs, attachments, the watch and the log, and nothing for isolation.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { createServer, type Http2Server, type ServerHttp2Session } from "node:http2";
import { constants } from "node:os";

import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type ServiceImpl } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

import {
  AgentService,
  type ExitStatus,
  ExitStatusSchema,
  HeartbeatSchema,
  Mode,
  type OpenAttach,
  type OpenExec,
  SessionErrorReason,
  type SessionRequest,
  type SessionResponse,
  SessionResponseSchema,
  type StartRequest,
  type StartResponse,
  StartResponseSchema,
  type WatchResponse,
  WatchResponseSchema,
} from "../../src/gen/sockerless/agent/v1/agent_pb.ts";
import { Broadcast } from "./broadcast.ts";

/** Message of an agent that has nothing else to tell: a watch that hears nothing for 30 s is cut. */
const heartbeat: WatchResponse["event"] = { case: "heartbeat", value: create(HeartbeatSchema) };
const heartbeatMs = 10_000;

/** Parameters of the agent of one run. */
export interface ProcessAgentOptions {
  /** Path of the socket that it listens on. */
  readonly socket: string;
  readonly containerId: string;
  readonly generation: bigint;
  readonly args: readonly string[];
  readonly env: readonly string[];
  /** Starts are made, and not answered. */
  readonly losesStarts: boolean;
  /** Starts wait for attachments however long they take. */
  readonly isPatient: boolean;
  /** Starts are made, and answered only then. */
  readonly startAnswers: Promise<void>;
}

interface Running {
  readonly child: ChildProcess;
  readonly exit: Promise<ExitStatus>;
  ended: ExitStatus | undefined;
}

/** The agent of one run of a container. */
export class ProcessAgent {
  readonly options: ProcessAgentOptions;
  /** The Start requests that came. */
  readonly starts: StartRequest[] = [];
  /**
   * Calls that are answered as by an agent that cannot be reached. `pauseAnswer`, `signalAnswer` and `resume` fail one call
   * only, the first two after it was done.
   */
  readonly failures = new Set<
    "execInspect" | "pause" | "pauseAnswer" | "resize" | "resume" | "signal" | "signalAnswer"
  >();
  /** Signals that come and do nothing yet. */
  readonly lateSignals = new Set<number>();
  /** Signals whose calls are not answered. */
  readonly unanswered = new Set<number>();
  /** Calls that are done, and answered only then. */
  readonly heldAnswers = new Map<"acknowledge" | "pause" | "signal", Promise<void>>();
  /** Calls for a signal, well or not. */
  signalAttempts: number = 0;
  readonly #signalTokens = new Set<string>();
  /** Resizes and signals that came, in words. */
  readonly calls: string[] = [];
  readonly #server: Http2Server;
  readonly #sessions = new Set<ServerHttp2Session>();
  /** True after a pause, false after a resume; the processes go on. */
  paused = false;
  readonly #watch = new Broadcast<WatchResponse["event"]>();
  readonly #output = new Broadcast<{ readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }>();
  readonly #attached = new Map<string, PromiseWithResolvers<void>>();
  readonly #started = Promise.withResolvers<void>();
  readonly #execs = new Map<string, Running>();
  readonly #refused = new Set<string>();
  #result: Promise<StartResponse> | undefined;
  #main: Running | undefined;
  #stopped: Promise<void> | undefined;

  private constructor(options: ProcessAgentOptions) {
    this.options = options;
    this.#started.promise.catch(() => undefined);
    this.#server = createServer(
      connectNodeAdapter({ routes: (router) => router.service(AgentService, this.#service()) }),
    );
    this.#server.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
    });
  }

  /** Starts to listen. */
  static async listen(options: ProcessAgentOptions): Promise<ProcessAgent> {
    const agent = new ProcessAgent(options);
    agent.#server.listen(options.socket);
    await once(agent.#server, "listening");
    return agent;
  }

  /** The end of the main process, if it has ended. */
  get exit(): ExitStatus | undefined {
    return this.#main?.ended;
  }

  /** Process ID of the main process; 0 before it is started. */
  get pid(): number {
    return this.#main?.child.pid ?? 0;
  }

  /** Ends of execs so far. */
  get execExits(): ReadonlyMap<string, number> {
    return new Map(
      [...this.#execs]
        .filter(([, exec]) => exec.ended !== undefined)
        .map(([id, exec]) => [id, exec.ended?.code ?? 255]),
    );
  }

  /** Addresses that the container's resolver answers, by `name.network`. */
  names: ReadonlyMap<string, string> = new Map();
  /** State that it was told to keep instead of what its start brought. */
  resealed: Uint8Array | undefined;
  /** Why it answers no names, once and for all. */
  namesRefusal: ConnectError | undefined;
  /** How many of the next tells of names fail. */
  failingNames = 0;
  /** While it is set tells of names are not answered: until it is resolved. */
  busyNames: PromiseWithResolvers<void> | undefined;

  /** Bytes that it says its container has written. */
  writtenBytes = 4096n;

  /** While it is set each watch ends after its first message. */
  endsWatches = false;

  /** While it is set ends of execs are to be acknowledged. */
  owesAcknowledgements = false;
  /** Sequences that were acknowledged, in order. */
  readonly acknowledged: bigint[] = [];

  /** Tells the watchers something that the processes do not do by themselves. */
  tell(event: WatchResponse["event"]): void {
    this.#watch.send(event);
  }

  /** Cuts every connection; clients may dial again. */
  cut(): void {
    for (const session of this.#sessions) {
      session.destroy();
    }
  }

  /** Kills what runs and leaves. */
  stop(): Promise<void> {
    this.#stopped ??= this.#leave();
    return this.#stopped;
  }

  /** The agent dies without a word; its processes go with it. */
  async crash(): Promise<void> {
    this.#server.close();
    this.cut();
    await this.stop();
  }

  async #leave(): Promise<void> {
    for (const running of [this.#main, ...this.#execs.values()]) {
      running?.child.kill("SIGKILL");
      await running?.exit;
    }
    this.#started.reject(new Error("the agent left"));
    this.#server.close();
    this.cut();
    await rm(this.options.socket, { force: true });
  }

  #service(): Partial<ServiceImpl<typeof AgentService>> {
    return {
      hello: () => ({
        version: "0.0.0",
        mode: Mode.SHIM,
        containerId: this.options.containerId,
        partnerKey: Buffer.from("a key"),
      }),
      partners: () => ({}),
      start: async (request) => {
        this.starts.push(request);
        this.#result ??= this.#start(request);
        const result = await this.#result;
        await this.options.startAnswers;
        if (this.options.losesStarts) {
          throw new ConnectError("lost on the way", Code.Unavailable);
        }
        return result;
      },
      describe: () => ({}),
      reseal: ({ specification }) => {
        this.resealed = specification;
        return {};
      },
      names: async ({ networks }) => {
        await this.busyNames?.promise;
        if (this.namesRefusal !== undefined) {
          throw this.namesRefusal;
        }
        if (this.failingNames > 0) {
          this.failingNames -= 1;
          throw new ConnectError("not now", Code.Unavailable);
        }
        this.names = new Map(
          networks.flatMap(({ name, peers }) =>
            peers.flatMap((peer) =>
              peer.names.map((each) => [`${each}.${name}`, peer.addresses.join()] as const),
            ),
          ),
        );
        return {};
      },
      session: (requests) => this.#session(requests),
      resize: ({ execId, size }) => {
        if (this.failures.has("resize")) {
          this.calls.push("resize fails");
          throw new ConnectError("not now", Code.Unavailable);
        }
        this.#running(execId);
        this.calls.push(`resize ${execId === "" ? "main" : "exec"} ${size?.height}x${size?.width}`);
        return {};
      },
      signal: async ({ execId, signal, clientToken }, call) => {
        this.signalAttempts += 1;
        if (this.unanswered.has(signal)) {
          await once(call.signal, "abort");
          this.calls.push(`signal ${signal} is given up`);
          return {};
        }
        if (this.failures.has("signal")) {
          throw new ConnectError("not now", Code.Unavailable);
        }
        const { child } = this.#running(execId);
        if (clientToken === "" || !this.#signalTokens.has(clientToken)) {
          this.#signalTokens.add(clientToken);
          this.calls.push(`signal ${signal}`);
          const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
          if (!this.lateSignals.has(signal)) {
            child.kill(name === undefined ? signal : (name as NodeJS.Signals));
          }
        }
        await this.heldAnswers.get("signal");
        if (this.failures.delete("signalAnswer")) {
          throw new ConnectError("lost on the way", Code.Unavailable);
        }
        return {};
      },
      diskUsage: () => {
        this.calls.push("diskUsage");
        return { writtenBytes: this.writtenBytes };
      },
      execInspect: ({ execId, refuse }) => {
        if (this.failures.has("execInspect")) {
          this.calls.push("execInspect fails");
          throw new ConnectError("not now", Code.Unavailable);
        }
        const exec = this.#execs.get(execId);
        if (exec === undefined && (refuse || this.#refused.has(execId))) {
          this.#refused.add(execId);
          return { exit: exitStatus(255) };
        }
        if (exec === undefined) {
          throw new ConnectError("no such exec", Code.NotFound);
        }
        return {
          running: exec.ended === undefined,
          pid: BigInt(exec.child.pid ?? 0),
          ...(exec.ended === undefined ? {} : { exit: exec.ended }),
        };
      },
      watch: (_, { signal }) => this.#watchMessages(signal),
      acknowledge: async ({ sequence }) => {
        this.acknowledged.push(sequence);
        await this.heldAnswers.get("acknowledge");
        return {};
      },
      pause: async () => {
        if (this.failures.has("pause")) {
          this.calls.push("pause fails");
          throw new ConnectError("not now", Code.Unavailable);
        }
        this.paused = true;
        await this.heldAnswers.get("pause");
        if (this.failures.delete("pauseAnswer")) {
          throw new ConnectError("too late", Code.DeadlineExceeded);
        }
        return {};
      },
      resume: () => {
        if (this.failures.delete("resume")) {
          throw new ConnectError("too late", Code.DeadlineExceeded);
        }
        this.paused = false;
        return {};
      },
      logs: () => {
        throw new ConnectError("no log here", Code.Unimplemented);
      },
      archiveStat: () => {
        throw new ConnectError("no files here", Code.Unimplemented);
      },
      archiveGet: () => {
        throw new ConnectError("no files here", Code.Unimplemented);
      },
      archivePut: () => {
        throw new ConnectError("no files here", Code.Unimplemented);
      },
    };
  }

  async #start(request: StartRequest): Promise<StartResponse> {
    const attached = Promise.all(request.awaitAttachIds.map((id) => this.#attachment(id).promise));
    const timeout = new Promise((resolve) => setTimeout(resolve, request.awaitAttachTimeoutMs).unref());
    await (this.options.isPatient ? attached : Promise.race([attached, timeout]));
    const env = Object.fromEntries(this.options.env.map((entry) => entry.split("=", 2)));
    try {
      this.#main = await run(this.options.args, { ...env }, (stream, data) =>
        this.#output.send({ stream, data }),
      );
    } catch (error) {
      const failure = startFailure(this.options.args, error);
      this.#started.reject(error);
      return create(StartResponseSchema, { result: { case: "failure", value: failure } });
    }
    this.#started.resolve();
    const main = this.#main;
    void main.exit.then((exit) => {
      main.ended = exit;
      this.#watch.send({ case: "exited", value: exit });
    });
    return create(StartResponseSchema, {
      result: { case: "started", value: { pid: BigInt(main.child.pid ?? 0), startedAt: timestampNow() } },
    });
  }

  async *#watchMessages(signal: AbortSignal): AsyncGenerator<WatchResponse> {
    const events = this.#watch.listen(signal);
    const running = [...this.#execs].filter(([, exec]) => exec.ended === undefined);
    const ended = [...this.#execs].filter(([, exec]) => exec.ended !== undefined);
    yield create(WatchResponseSchema, {
      event: {
        case: "state",
        value: {
          ...(this.#main === undefined ? {} : { started: { pid: BigInt(this.#main.child.pid ?? 0) } }),
          ...(this.#main?.ended === undefined ? {} : { exit: this.#main.ended }),
          paused: this.paused,
          runningExecs: running.map(([execId, exec]) => ({ execId, pid: BigInt(exec.child.pid ?? 0) })),
          endedExecs: ended.map(([execId, exec]) => ({
            execId,
            ...(exec.ended === undefined ? {} : { exit: exec.ended }),
          })),
        },
      },
    });
    if (this.endsWatches) {
      return;
    }
    const beats = setInterval(() => this.tell(heartbeat), heartbeatMs).unref();
    let sequence = 0n;
    try {
      for await (const event of events) {
        sequence += event.case === "heartbeat" ? 0n : 1n;
        const acknowledge = this.owesAcknowledgements && event.case === "execEnded";
        yield create(WatchResponseSchema, { event, sequence, acknowledge });
      }
    } finally {
      clearInterval(beats);
    }
  }

  async *#session(requests: AsyncIterable<SessionRequest>): AsyncGenerator<SessionResponse> {
    const iterator = requests[Symbol.asyncIterator]();
    const { value: first } = await iterator.next();
    const open = (first as SessionRequest | undefined)?.message;
    if (open?.case === "openExec") {
      yield* this.#exec(open.value);
    } else if (open?.case === "openAttach") {
      yield* this.#attach(open.value);
    } else {
      throw new ConnectError("the first message opens nothing", Code.InvalidArgument);
    }
  }

  async *#exec(open: OpenExec): AsyncGenerator<SessionResponse> {
    if (this.#execs.has(open.execId) || this.#refused.has(open.execId)) {
      throw new ConnectError("this exec was opened before", Code.AlreadyExists);
    }
    const output = new Broadcast<{ readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }>();
    const ended = new AbortController();
    const chunks = output.listen(ended.signal);
    let exec: Running;
    try {
      exec = await run(open.process?.args ?? [], process.env, (stream, data) =>
        output.send({ stream, data }),
      );
    } catch (error) {
      const { exitCode, message } = startFailure(open.process?.args ?? [], error);
      this.#watch.send({
        case: "execEnded",
        value: {
          $typeName: "sockerless.agent.v1.ExecEnded",
          execId: open.execId,
          exit: exitStatus(exitCode),
        },
      });
      yield response({
        case: "error",
        value: {
          $typeName: "sockerless.agent.v1.SessionError",
          reason: SessionErrorReason.START_FAILED,
          message,
          exitCode,
        },
      });
      return;
    }
    this.#execs.set(open.execId, exec);
    const pid = BigInt(exec.child.pid ?? 0);
    this.#watch.send({
      case: "execStarted",
      value: { $typeName: "sockerless.agent.v1.ExecStarted", execId: open.execId, pid },
    });
    yield response({
      case: "started",
      value: { $typeName: "sockerless.agent.v1.SessionStarted", pid, tty: false },
    });
    void exec.exit.then((exit) => {
      exec.ended = exit;
      this.#watch.send({
        case: "execEnded",
        value: { $typeName: "sockerless.agent.v1.ExecEnded", execId: open.execId, exit },
      });
      ended.abort();
    });
    yield* outputs(chunks);
    yield response({ case: "exit", value: await exec.exit });
  }

  async *#attach(open: OpenAttach): AsyncGenerator<SessionResponse> {
    const ended = new AbortController();
    const chunks = this.#output.listen(ended.signal);
    this.#attachment(open.attachId).resolve();
    await this.#started.promise;
    yield response({
      case: "started",
      value: { $typeName: "sockerless.agent.v1.SessionStarted", pid: 0n, tty: false },
    });
    void this.#main?.exit.then(() => ended.abort());
    yield* outputs(chunks);
    const exit = await this.#main?.exit;
    if (exit !== undefined) {
      yield response({ case: "exit", value: exit });
    }
  }

  #attachment(id: string): PromiseWithResolvers<void> {
    const known = this.#attached.get(id) ?? Promise.withResolvers<void>();
    this.#attached.set(id, known);
    return known;
  }

  #running(execId: string): Running {
    const running = execId === "" ? this.#main : this.#execs.get(execId);
    if (running === undefined || running.ended !== undefined) {
      throw new ConnectError("not running", Code.FailedPrecondition);
    }
    return running;
  }
}

async function* outputs(
  chunks: AsyncIterable<{ readonly stream: "stdout" | "stderr"; readonly data: Uint8Array }>,
): AsyncGenerator<SessionResponse> {
  const offsets = { stdout: 0n, stderr: 0n };
  for await (const { stream, data } of chunks) {
    yield response({
      case: stream,
      value: { $typeName: "sockerless.agent.v1.Output", offset: offsets[stream], data },
    });
    offsets[stream] += BigInt(data.length);
  }
}

function response(message: SessionResponse["message"]): SessionResponse {
  return create(SessionResponseSchema, { message });
}

async function run(
  args: readonly string[],
  env: NodeJS.ProcessEnv,
  output: (stream: "stdout" | "stderr", data: Uint8Array) => void,
): Promise<Running> {
  const [file = "", ...rest] = args;
  const child = spawn(file, rest, { env, stdio: ["ignore", "pipe", "pipe"], detached: true });
  child.stdout.on("data", (data: Buffer) => output("stdout", data));
  child.stderr.on("data", (data: Buffer) => output("stderr", data));
  const closed = Promise.withResolvers<ExitStatus>();
  child.once("exit", () => child.pid !== undefined && killGroup(child.pid));
  child.once("close", (code, signal) => {
    const number = signal === null ? 0 : constants.signals[signal];
    closed.resolve(exitStatus(code ?? 128 + number, number));
  });
  await once(child, "spawn");
  return { child, exit: closed.promise, ended: undefined };
}

/** Kills what a process leaves behind, as the end of a PID namespace does. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // Nothing was left.
  }
}

function exitStatus(code: number, signal = 0): ExitStatus {
  return create(ExitStatusSchema, { code, signal, finishedAt: timestampNow() });
}

function startFailure(args: readonly string[], error: unknown) {
  const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
  return {
    $typeName: "sockerless.agent.v1.StartFailure" as const,
    exitCode: isMissing ? 127 : 126,
    message: `runc create failed: unable to start container process: exec: ${JSON.stringify(args[0])}: ${
      isMissing ? "executable file not found in $PATH" : "permission denied"
    }`,
  };
}
