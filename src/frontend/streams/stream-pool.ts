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

/** Maximum number of streams per thread; far more than there will be, because an idle stream costs a thread nothing. */
const streamsPerThread = 100_000;
/** Maximum number of threads: one frames about 1 GB/s, and more would outrun the main thread that writes. */
const maxThreads = 4;
/** Maximum bytes of input, of all streams, that agents have not taken yet. */
const inputBudget = 32 * 1024 * 1024;

/** Bytes of windows and output of all streams that were to be handed over but were not. */
const hereBudget = 4 * 1024 * 1024;

/**
 * Opens streams to agents, in worker threads except those whose clients are handed over. The threads start, and load
 * their library, with the first stream that needs them: where all connections are handed over, there may never be one.
 */
export class StreamPool {
  readonly #threads: number;
  #pool: Piscina<StreamTask, void> | undefined;
  readonly #links = new Set<StreamLink>();
  readonly #input = new ByteBudget(inputBudget);
  /** Resources of streams that run in this thread. */
  readonly #here: WorkerResources = {
    connections: new ConnectionPool(new ByteBudget(hereBudget)),
    supply: new BufferSupply(1, new ByteBudget(hereBudget)),
  };

  /** @param threads number of workers; by default one less than the machine's cores, at least one */
  constructor(threads = Math.min(maxThreads, Math.max(1, availableParallelism() - 1))) {
    this.#threads = threads;
  }

  /** Starts the threads ahead of the first stream, which would otherwise wait for them. */
  startThreads(): void {
    this.#started();
  }

  /** Number of open streams. */
  get size(): number {
    return this.#links.size;
  }

  /** The worker threads, once started. One that ends is replaced. */
  get threads(): readonly Worker[] {
    return this.#pool?.threads ?? [];
  }

  /**
   * Opens a stream. The link reports failures.
   *
   * @param handOver whether to hand over its client: of a session then only the opening and the end arrive here; of an
   *   archive everything, if its agent makes no offer
   */
  open(target: DialTarget, operation: StreamOperation, framing: Framing, handOver = false): StreamLink {
    const task = { target, operation, framing, handOver, requestId: currentRequestId() };
    return handOver && operation.kind === "session" ? this.#openHere(task) : this.#openInWorker(task);
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
        // A thread without tasks would otherwise block on a lock and not serve its HTTP/2 connections.
        atomics: "disabled",
      });
      // The pool replaces a thread that ends while it has no stream.
      this.#pool.on("error", () => {});
    }
    return this.#pool;
  }

  #openHere(task: Omit<StreamTask, "port">): StreamLink {
    const { port1, port2 } = portsInThread<FromWorker, ToWorker>();
    const link = this.#linkTo(port1, new Promise<never>(() => {}));
    void runStream({ ...task, port: port2 }, this.#here);
    return link;
  }

  #openInWorker(task: Omit<StreamTask, "port">): StreamLink {
    const { port1, port2 } = new MessageChannel();
    // Never with an AbortSignal: it would reserve a whole thread, and an abort would end it with all its streams.
    const run = this.#started().run(
      { ...task, port: port2 },
      // Piscina derives its type from the wrong overload of postMessage.
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
