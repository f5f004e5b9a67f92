/** One stream inside a worker: between the agent's HTTP/2 stream and the port to the main thread. */
import {
  AgentStream,
  type StreamKind,
  type StreamListener,
  type StreamRequest,
} from "../../agent-client/agent-stream.ts";
import { archiveGetStream, archivePutStream } from "../../agent-client/archive.ts";
import type { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { exportStream } from "../../agent-client/export.ts";
import { logsStream } from "../../agent-client/logs.ts";
import { sessionStream } from "../../agent-client/session.ts";
import { tunnelStream } from "../../agent-client/tunnel.ts";
import { toErrorData } from "../../common/errors.ts";
import { DetachScanner } from "./detach-keys.ts";
import { type BufferSupply, OutputBuffers } from "./output-buffers.ts";
import {
  type FromWorker,
  type StreamOperation,
  type StreamTask,
  type ToWorker,
  weightOf,
} from "./thread-messages.ts";

const kinds: Readonly<Record<StreamOperation["kind"], StreamKind>> = {
  session: sessionStream,
  logs: logsStream,
  "archive-get": archiveGetStream,
  "archive-put": archivePutStream,
  export: exportStream,
  tunnel: tunnelStream,
};

/** Connections and buffers that the streams of a worker share. */
export interface WorkerResources {
  readonly connections: ConnectionPool;
  readonly supply: BufferSupply;
}

/** Runs a stream to its end, which is reported over the port; never rejects. */
export function runStream(task: StreamTask, resources: WorkerResources): Promise<void> {
  return new Promise((resolve) => {
    new WorkerStream(task, resources, resolve).open();
  });
}

class WorkerStream {
  readonly #task: StreamTask;
  readonly #resources: WorkerResources;
  readonly #done: () => void;
  readonly #output: OutputBuffers;
  readonly #scanner: DetachScanner | undefined;
  /** Undefined until dialled; the client's input is queued meanwhile. */
  #agent: AgentStream | undefined;
  #early: (() => void)[] = [];
  #over: boolean = false;
  #isCancelled: boolean = false;
  /** The end, which is held until the client has taken the output. */
  #end: (FromWorker & { readonly type: "ended" }) | undefined;

  constructor(task: StreamTask, resources: WorkerResources, done: () => void) {
    this.#task = task;
    this.#resources = resources;
    this.#done = done;
    this.#scanner =
      task.operation.kind === "session" && task.operation.detachKeys.length > 0
        ? new DetachScanner(task.operation.detachKeys)
        : undefined;
    this.#output = new OutputBuffers(task.framing, resources.supply, {
      post: (buffer, length) => this.#post({ type: "output", buffer, length }, buffer),
      exhausted: () => this.#agent?.pause(),
      available: () => this.#agent?.resume(),
    });
  }

  open(): void {
    const { port } = this.#task;
    port.on("message", (message: ToWorker) => this.#obey(message));
    port.once("close", () => this.#cancel());
    this.#dial().catch((error: unknown) => {
      this.#finish({ type: "failed", failure: { ...toErrorData(error), exitCode: 0 } });
    });
  }

  async #dial(): Promise<void> {
    const { target, operation, handOver } = this.#task;
    const listener: StreamListener = {
      opened: (opened) => this.#post({ type: "opened", opened }),
      offered: ({ socket, token }) => this.#post({ type: "offered", offer: { socket, token } }),
      data: (channel, source, start, end) => this.#output.write(channel, source, start, end),
      handed: () => this.#post({ type: "handed" }),
      carried: (bytes) => this.#post({ type: "carried", bytes }),
      outputEnded: () => {
        this.#output.end();
        this.#post({ type: "output-end" });
      },
      ended: (outcome) => this.#finish({ type: "ended", outcome }),
      failed: (failure) => this.#finish({ type: "failed", failure }),
    };
    const request: StreamRequest = {
      containerId: target.containerId,
      first: "open" in operation ? operation.open : operation.request,
      carriesInput: carriesInput(operation),
      handOver,
    };
    const connection = this.#resources.connections.connectionTo(target);
    const agent = await AgentStream.open(connection, kinds[operation.kind], request, listener);
    this.#task.operation = withoutRequest(operation);
    this.#agent = agent;
    if (this.#isCancelled) {
      agent.cancel();
      return;
    }
    const early = this.#early;
    this.#early = [];
    for (const action of early) {
      action();
    }
  }

  #obey(message: ToWorker): void {
    if (this.#over) {
      return;
    }
    switch (message.type) {
      case "input":
        this.#whenDialled(() => this.#takeInput(message.chunks));
        break;
      case "input-end":
        this.#whenDialled(() => this.#agent?.endInput());
        break;
      case "keep":
        this.#whenDialled(() => this.#agent?.keep());
        break;
      case "returned":
        this.#output.returned(message.buffer);
        this.#finishOnceTaken();
        break;
      case "cancel":
        this.#cancel();
        break;
      case "leave":
        this.#leave();
        break;
    }
  }

  #whenDialled(action: () => void): void {
    if (this.#agent === undefined) {
      this.#early.push(action);
    } else {
      action();
    }
  }

  #takeInput(chunks: readonly Uint8Array[]): void {
    const weight = weightOf(chunks);
    const taken = (): void => this.#post({ type: "input-taken", weight });
    if (this.#scanner === undefined) {
      this.#sendInput(chunks, taken);
      return;
    }
    const pass: Uint8Array[] = [];
    for (const chunk of chunks) {
      const scanned = this.#scanner.scan(chunk);
      pass.push(...scanned.pass);
      if (scanned.detached) {
        this.#sendInput(pass, () => this.#detach());
        return;
      }
    }
    this.#sendInput(pass, taken);
  }

  /** Sends chunks of input; `taken` is called once the last of them has been sent. */
  #sendInput(chunks: readonly Uint8Array[], taken: () => void): void {
    const last = chunks.at(-1);
    if (last === undefined) {
      taken();
      return;
    }
    for (const chunk of chunks.slice(0, -1)) {
      this.#agent?.sendInput(chunk, () => {});
    }
    this.#agent?.sendInput(last, taken);
  }

  #detach(): void {
    this.#agent?.cancel();
    this.#finish({ type: "ended", outcome: { kind: "detached" } });
  }

  /**
   * Sends the final message to the main thread, after all output. A stream that has ended normally waits for a slow
   * client; one that was cut ends at once, so that a client that only sends does not continue in vain.
   */
  #finish(last: FromWorker & { readonly type: "ended" | "failed" }): void {
    if (this.#over || this.#end !== undefined) {
      return;
    }
    this.#output.end();
    if (last.type === "failed") {
      this.#close(last);
      return;
    }
    this.#end = last;
    this.#finishOnceTaken();
  }

  #finishOnceTaken(): void {
    if (this.#end !== undefined && this.#output.isMostlyTaken) {
      this.#close(this.#end);
    }
  }

  #close(last: FromWorker): void {
    this.#post(last);
    this.#over = true;
    this.#output.discard();
    this.#done();
  }

  /** The agent is told after the client's last bytes, without waiting for it. */
  #leave(): void {
    this.#whenDialled(() => this.#agent?.leave());
    this.#over = true;
    this.#output.discard();
    this.#done();
  }

  #cancel(): void {
    if (this.#over) {
      return;
    }
    this.#over = true;
    this.#isCancelled = true;
    this.#early = [];
    this.#agent?.cancel();
    this.#output.discard();
    this.#done();
  }

  #post(message: FromWorker, buffer?: Uint8Array): void {
    if (!this.#over) {
      this.#task.port.postMessage(message, buffer === undefined ? [] : [buffer.buffer as ArrayBuffer]);
    }
  }
}

function withoutRequest(operation: StreamOperation): StreamOperation {
  const none = new Uint8Array();
  return "open" in operation ? { ...operation, open: none } : { ...operation, request: none };
}

function carriesInput(operation: StreamOperation): boolean {
  switch (operation.kind) {
    case "session":
      return operation.carriesInput;
    case "archive-put":
    case "tunnel":
      return true;
    default:
      return false;
  }
}
