/** The pool of stream workers. */
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { MessageChannel, type Worker } from "node:worker_threads";

import type { Piscina } from "piscina";

import type { DialTarget } from "../../agent-client/address.ts";
import { ConnectionPool } from "../../agent-client/connection-pool.ts";
import { ByteBudget } from "../../common/byte-budget.ts";
import { currentRequestId } from "../../common/request-id.ts";
import { BufferSupply } from "./output-buffers.ts";
import { StreamLink } from "./stream-link.ts";
import type { Framing, FromWorker, StreamOperation, StreamTask, ToWorker } from "./thread-messages.ts";
import { portsInThread, type StreamPort } from "./thread-ports.ts";
import { runStream, type WorkerResources } from "./worker-stream.ts";

const require = createRequire(import.meta.url);

type TransferList = NonNullable<NonNullable<Parameters<Piscina["run"]>[1]>["transferList"]>;

/** Streams of one thread; far more than there will be, because a stream that waits costs a thread nothing. */
const streamsPerThread = 100_000;
/** One thread frames about 1 GB/s: more threads than these would outrun the main thread that writes. */
const maxThreads = 4;
/** Bytes of input of all streams that agents have not taken yet, at most. */
const inputBudget = 32 * 1024 * 1024;

/** Bytes of windows, and of output, of all streams whose clients were to be handed over, and were not. */
const hereBudget = 4 * 1024 * 1024;

/**
 * Opens streams to agents, in worker threads but for those whose clients are handed over. The threads start, and their
 * library is loaded, with the first stream that needs them: where connections are handed on, there may never be one.
 */
export class StreamPool {
  readonly #threads: number;
  #pool: Piscina<StreamTask, void> | undefined;
  readonly #links = new Set<StreamLink>();
  readonly #input = new ByteBudget(inputBudget);
  /** Resources of the streams that this thread runs itself. */
  readonly #here: WorkerResources = {
    connections: new ConnectionPool(new ByteBudget(hereBudget)),
    supply: new BufferSupply(1, new ByteBudget(hereBudget)),
  };

  /** @param threads how many workers; by default one less than the machine has cores, at least one */
  constructor(threads = Math.min(maxThreads, Math.max(1, availableParallelism() - 1))) {
    this.#threads = threads;
  }

  /** Starts the threads, for whoever will need them soon: the first stream would wait for them. */
  startThreads(): void {
    this.#started();
  }

  /** How many streams are open. */
  get size(): number {
    return this.#links.size;
  }

  /** The workers' threads, once they are started. One that ends is replaced. */
  get threads(): readonly Worker[] {
    return this.#pool?.threads ?? [];
  }

  /**
   * Opens a stream. Failures are told by the link.
   *
   * @param handOver whether its client is to be handed over: of a session comes nothing here then but that it was opened,
   *   and its end. Of an archive all comes here where its agent has no offer to make
   */
  open(target: DialTarget, operation: StreamOperation, framing: Framing, handOver = false): StreamLink {
    return handOver && operation.kind === "session"
      ? this.#openHere(target, operation, framing)
      : this.#openInWorker(target, operation, framing);
  }

  #started(): Piscina<StreamTask, void> {
    if (this.#pool === undefined) {
      const { Piscina } = require("piscina") as typeof import("piscina");
      this.#pool = new Piscina({
        filename: new URL("./worker.js", import.meta.url).href,
        name: "serveStream",
        minThreads: this.#threads,
        maxThreads: this.#threads,
        idleTimeout: Number.POSITIVE_INFINITY,
        concurrentTasksPerWorker: streamsPerThread,
        // A thread without tasks would otherwise sleep on a lock, deaf to its HTTP/2 connections.
        atomics: "disabled",
      });
      // A thread that ends while it has no stream: the pool replaces it.
      this.#pool.on("error", () => {});
    }
    return this.#pool;
  }

  #openHere(target: DialTarget, operation: StreamOperation, framing: Framing): StreamLink {
    const { port1, port2 } = portsInThread<FromWorker, ToWorker>();
    const link = this.#linkTo(port1, new Promise<never>(() => {}));
    void runStream({ target, operation, framing, requestId: currentRequestId(), port: port2 }, this.#here);
    return link;
  }

  #openInWorker(target: DialTarget, operation: StreamOperation, framing: Framing): StreamLink {
    const { port1, port2 } = new MessageChannel();
    // Never with an AbortSignal: that would take a whole thread, and an abort would end it with all its streams.
    const run = this.#started().run(
      { target, operation, framing, requestId: currentRequestId(), port: port2 },
      // Piscina derives its type from an overload of postMessage that is not the one it calls.
      { transferList: [port2] as unknown as TransferList },
    );
    const died = new Promise<never>((_, reject) => {
      run.catch(reject);
    });
    return this.#linkTo(port1, died);
  }

  #linkTo(port: StreamPort<FromWorker>, died: Promise<never>): StreamLink {
    const link = new StreamLink(port, died, this.#input);
    this.#links.add(link);
    const forget = (): void => {
      this.#links.delete(link);
    };
    link.ended.then(forget, forget);
    return link;
  }

  /** Ends every stream with an error, then the threads. */
  async close(): Promise<void> {
    for (const link of this.#links) {
      link.cancel({ kind: "unavailable", message: "sockerless is shutting down", exitCode: 0 });
    }
    this.#here.connections.close();
    await this.#pool?.destroy();
  }
}
